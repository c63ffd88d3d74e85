"""Write ``generated/config-reference.md`` from the JSON Schema of configs, before a build."""

from __future__ import annotations

import json
import pathlib
import re
from typing import TYPE_CHECKING, Any

from keras_lr.config.schema import schema

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

TITLE = """\
# Config reference

Every name that a [config](../config.md) may use, with what its arguments accept and their
defaults. This page is generated from the JSON Schema, `keras-lr schema`.
"""

GROUPS = {
    "schedule": ("Schedules", "They go wherever a schedule is expected, and into `callbacks`."),
    "callback": ("Other callbacks", "They go into `callbacks`, as schedules do."),
    "keras": (
        "Keras schedules",
        "Schedules of Keras itself, which count steps. They go into `fn` of [Function](#function).",
    ),
}

NOUNS = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "`true` or `false`",
    "null": "`null`",
    "array": "a list",
    "string": "text",
}

BOUNDS = {
    "minimum": "of at least",
    "exclusiveMinimum": "above",
    "maximum": "of at most",
    "exclusiveMaximum": "below",
}

ASTRONOMIC = 1e30
"""Bounds from here on only keep numbers within float32 and float64, and need no mention."""

LENGTHS = ("2000 steps", "5 epochs", "30%", "rest")


def page(made: dict[str, Any]) -> str:
    """Return the page for a schema."""
    defs = made["$defs"]
    shown = {name: list(defs[name]["properties"]) for name in ("schedule", "callback")}
    shown["callback"] = [name for name in shown["callback"] if name not in shown["schedule"]]
    shown["keras"] = sorted(name for name in defs if name.startswith("keras."))
    shared = ["schedule", "callback", "function", "function_name", "plain"]
    rest = set(defs).difference(shared, *shown.values())
    if rest:
        raise ValueError(f"The config reference has no group for {', '.join(sorted(rest))}")
    parts = [TITLE]
    for group, (title, about) in GROUPS.items():
        parts.append(f"## {title}\n\n{about}\n")
        parts += [entry(name, defs[name]) for name in shown[group]]
    return "\n".join(parts)


def entry(name: str, made: dict[str, Any]) -> str:
    """Return the section of one class."""
    short = ""
    whole = next((one for one in made.get("anyOf", ()) if "properties" in one), made)
    if whole is not made:
        (other,) = (one for one in made["anyOf"] if one is not whole)
        (field,) = whole["required"]
        short = f" In short, the {NOUNS[other['type']].split()[-1]} of `{field}` alone."
    own = not name.startswith("keras.")
    link = f"{{class}}`~keras_lr.{name}`" if own else f"`keras.optimizers.schedules.{name[6:]}`"
    rows = [
        row(field, one, field in whole["required"]) for field, one in whole["properties"].items()
    ]
    if whole["additionalProperties"]:
        rows.append(f"| *any other name* | {accepts(whole['additionalProperties'])} | | |")
    head = "| argument | accepts | default | |\n|---|---|---|---|\n"
    title = name.removeprefix("keras.")
    return f"### {title}\n\n{made['description']}{short} API: {link}\n\n{head}" + "".join(
        f"{one}\n" for one in rows
    )


def row(name: str, made: dict[str, Any], required: bool) -> str:
    """Return the row of one argument."""
    default = "*required*" if required else f"`{json.dumps(made['default'])}`"
    cells = (f"`{name}`", accepts(made), default, made.get("description", ""))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def accepts(made: dict[str, Any]) -> str:
    """Return what a schema accepts, in words."""
    *first, last = choices(made)
    return f"{', '.join(first)} or {last}" if first else last


def choices(made: dict[str, Any]) -> list[str]:
    """Return the alternatives that a schema accepts, each in words."""
    match made:
        case {"$ref": "#/$defs/schedule"}:
            return ["a [schedule](#schedules)"]
        case {"$ref": "#/$defs/function_name"}:
            return ["the name of a registered function"]
        case {"$ref": "#/$defs/function"}:
            return ["the name of a registered function", "a [Keras schedule](#keras-schedules)"]
        case {"$ref": "#/$defs/plain"}:
            return ["a number", "text", "`true` or `false`", "`null`", "a list of these"]
        case {"anyOf": some}:
            # The words for null in TOML, which has none, need no mention.
            shown = (one for one in some if one != {"enum": ["none", "None"]})
            return [choice for one in shown for choice in choices(one)]
        case {"enum": words} | {"type": "string", "examples": words}:
            return [f"`{json.dumps(word)}`" for word in words]
        case {"type": "string", "pattern": pattern}:
            return [f"`{json.dumps(one)}`" for one in LENGTHS if re.search(pattern, one)]
        case {"type": list(types)}:
            return [NOUNS[one] for one in types]
        case {"type": "array", "items": item}:
            count = f" of {made['maxItems']}" if "maxItems" in made else ""
            least = f" of at least {made['minItems']}" if made.get("minItems") else ""
            return [f"a list{count or least} (each {accepts(item)})"]
        case {"type": "number" | "integer" as kind}:
            unit = f" of {made['title']}" if "title" in made else ""
            bounds = [
                f"{words} {made[key]:g}"
                for key, words in BOUNDS.items()
                if key in made and abs(made[key]) < ASTRONOMIC
            ]
            return [f"{NOUNS[kind]}{unit} {' and '.join(bounds).replace('and of', 'and')}".strip()]
        case {"type": "object", "additionalProperties": item}:
            return [f"a mapping of names to {accepts(item)}"]
        case {"type": str(kind)}:
            return [NOUNS[kind]]
    raise ValueError(f"The config reference has no words for {made}")


def write(app: Sphinx) -> None:
    """Write the page where it has changed."""
    path = pathlib.Path(app.srcdir, "generated", "config-reference.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = page(schema())
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Write the page when a build begins."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
