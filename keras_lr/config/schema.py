"""The JSON Schema of configs, made from the classes' fields and docstrings.

Editors use it to complete and check a config: ``keras-lr schema > lr.schema.json``.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import keras

from keras_lr.config.registry import (
    CALLBACKS,
    PLAIN_SCHEMA,
    REQUIRED,
    ClassSpec,
    class_specs,
    functions,
    keras_class_specs,
)
from keras_lr.schedules.base import Schedule, ScheduleField

_ARGS = re.compile(r"^Args:\n(?P<text>(?:    .*\n|\n)*)", re.MULTILINE)
_ARG = re.compile(
    r"^    \*{0,2}(?P<name>\w+)(?: \([^)]*\))?:(?P<text>.*(?:\n     .*)*)", re.MULTILINE
)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file.

    >>> made = schema()
    >>> made["$defs"]["Constant"]["properties"]["lr"]
    {'type': 'number', 'minimum': 0.0, 'maximum': 3.4028234663852886e+38, 'description': 'The rate;
    not negative.'}
    """
    own, foreign = class_specs(), keras_class_specs()
    callback = keras.callbacks.Callback
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Learning-rate callbacks of keras_lr",
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    CALLBACKS: {
                        "description": "The callbacks, in order.",
                        "type": "array",
                        "items": {"$ref": "#/$defs/callback"},
                    }
                },
                "required": [CALLBACKS],
                "additionalProperties": False,
            },
            {"$ref": "#/$defs/callback"},
        ],
        "$defs": {
            "callback": _one_of({n: f for n, f in own.items() if issubclass(f.cls, callback)}),
            "schedule": _one_of({n: f for n, f in own.items() if issubclass(f.cls, Schedule)}),
            "function": {
                "description": "The name of a registered function, or a Keras schedule.",
                "anyOf": [
                    {"$ref": "#/$defs/function_name"},
                    _one_of(foreign, "keras."),
                ],
            },
            "function_name": {"enum": sorted(functions())} if functions() else {"not": {}},
            "plain": PLAIN_SCHEMA,
            **{name: _class(spec) for name, spec in own.items()},
            **{f"keras.{name}": _class(spec) for name, spec in foreign.items()},
        },
    }


def descriptions(cls: type) -> tuple[str, dict[str, str]]:
    """Return the first line of a class's docstring, and what it says about each argument."""
    text = inspect.getdoc(cls) or ""
    section = _ARGS.search(text + "\n")
    arguments = _ARG.finditer(section["text"]) if section else ()
    found = {one["name"]: _words(one["text"]) for one in arguments}
    return _words(text.partition("\n\n")[0]), found


def _words(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _one_of(known: dict[str, ClassSpec], prefix: str = "") -> dict[str, Any]:
    """Return the schema of a mapping with one key, the name of one of the ``known``."""
    return {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/{prefix}{name}"} for name in sorted(known)},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _class(spec: ClassSpec) -> dict[str, Any]:
    about, told = descriptions(spec.cls)
    properties = {}
    for name, argument in spec.arguments.items():
        properties[name] = argument.type.schema()
        if name in told:
            properties[name]["description"] = told[name]
        if argument.default is not REQUIRED:
            default = argument.default
            properties[name]["default"] = list(default) if isinstance(default, tuple) else default
    required = [name for name, one in spec.arguments.items() if one.default is REQUIRED]
    made: dict[str, Any] = {
        "description": about,
        "type": "object" if required or spec.others else ["object", "null"],
        "properties": properties,
        "required": required,
        "additionalProperties": spec.others.schema() if spec.others else False,
    }
    if isinstance(spec.others, ScheduleField):
        made["anyOf"] = [
            {"minProperties": 2},
            {"minProperties": 1, "not": {"required": list(properties)}},
        ]
    if spec.list_argument is not None:
        return {"description": about, "anyOf": [properties[spec.list_argument], made]}
    return made
