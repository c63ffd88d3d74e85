"""Config files: YAML, TOML and JSON, by the extension of the name."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any, NoReturn

from keras_lr._files import AnyPath, atomic_write, path_text
from keras_lr.config.plain import IN_A_FILE, plain_data
from keras_lr.config.problems import ConfigError, Place, Problem
from keras_lr.config.reader import LineOf, read_config
from keras_lr.config.registry import CALLBACKS
from keras_lr.config.writer import to_config

MAX_BYTES = 2**20
MAX_DOTS = 300
"""Largest number of dots in a TOML key: reading one takes the square of that."""

MAX_WORK = 5 * 10**6
"""How often TOML's reader may pass a part of a key or table name, at about 0.15 us each."""

NEW_PART = 50
"""Time of a part that makes a new table, as a multiple of that of any other part."""

_TABLE = re.compile(r"\s*\[\[?[^\[\]=,]*\]")
_BETWEEN_KEYS = re.compile(r"[=,{}\[\]]")

Parser = Callable[[str], tuple[Any, LineOf | None]]
"""Function that returns the data in a text, and a function that finds their lines."""

_TOO_DEEP = f"must be nested at most {IN_A_FILE.levels} levels deep"

# YAML 1.2, where 1e-3 is a number and `no` and `12:30` are not; PyYAML reads YAML 1.1.
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def load(path: AnyPath) -> list[Any]:
    """Return the callbacks that a config file describes.

    Args:
        path: A file that ends in ``.yaml``, ``.yml``, ``.toml`` or ``.json``.

    Raises:
        ConfigError: If the config is wrong; it names file, line and place of every error.
        ImportError: If the file is YAML and PyYAML is missing.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "lr.json")
    ...     _ = path.write_text('{"callbacks": [{"CosineDecay": {"initial_lr": 0.1}}]}')
    ...     load(path)
    [CosineDecay(initial_lr=0.1)]
    """
    file = path_text(path)
    parse = _PARSERS.get(_ending(file)) or _unknown(file)
    with open(file, "rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    return _load_content(content, parse, file)


def load_text(content: bytes, name: str) -> list[Any]:
    """Return the callbacks that a text describes, which may be JSON, TOML or YAML.

    Args:
        content: The text, as UTF-8.
        name: Name of the text in errors.

    Raises:
        ConfigError: If the config is wrong.
        ImportError: If the text is neither JSON nor TOML, and PyYAML is missing.
    """
    return _load_content(content, _parse_any, name)


def _load_content(content: bytes, parse: Parser, file: str) -> list[Any]:
    try:
        if len(content) > MAX_BYTES:
            _fail(f"must be at most {MAX_BYTES} bytes long")
        data, line_of = parse(_decoded(content))
    except RecursionError:
        raise ConfigError([Problem("", _TOO_DEEP)], file) from None
    except ConfigError as error:
        raise ConfigError(error.problems, file) from None
    if not isinstance(data, dict):
        message = f"must be a mapping with the key `{CALLBACKS}` above a list, or one callback"
        raise ConfigError([Problem("", message, 1)], file)
    made = read_config(data, file, line_of, IN_A_FILE)
    return made if CALLBACKS in data else [made]


def save(callbacks: Any, path: AnyPath) -> None:
    """Write callbacks to a config file, which appears whole or not at all.

    Args:
        callbacks: A list of callbacks, or one.
        path: A file that ends in ``.yaml``, ``.yml``, ``.toml`` or ``.json``.

    Raises:
        ConfigError: If they cannot be written, such as a `Function` of a lambda, or if no fit
            accepts them together, such as two schedules of one rate.
        ImportError: If PyYAML, or for TOML tomli-w, is missing.

    >>> import pathlib, tempfile
    >>> from keras_lr import CosineDecay
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save([CosineDecay(0.1).warmup(5)], pathlib.Path(folder, "lr.yaml"))
    ...     print(pathlib.Path(folder, "lr.yaml").read_text())
    callbacks:
    - Warmup:
        schedule:
          CosineDecay: {initial_lr: 0.1}
        over: 5
    """
    file = path_text(path)
    write = _WRITERS.get(_ending(file)) or _unknown(file)
    config = to_config(callbacks if isinstance(callbacks, list | tuple) else [callbacks])
    text = write(plain_data(config, IN_A_FILE))
    if to_config(read_config(_PARSERS[_ending(file)](text)[0])) != config:
        raise ConfigError([Problem("", "this format cannot hold it; use another")], file)
    with atomic_write(file) as opened:
        opened.write(text)


def _ending(file: str) -> str:
    return pathlib.Path(file).suffix.lower()


def _unknown(file: str) -> NoReturn:
    raise ConfigError([Problem("", f"the name must end in one of {', '.join(_PARSERS)}")], file)


def _fail(message: str, line: int | None = None) -> NoReturn:
    raise ConfigError([Problem("", message, line)])


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _fail(f"must be UTF-8 text: {error.reason} at byte {error.start}", line)


# JSON


def _parse_json(text: str) -> tuple[Any, LineOf | None]:
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_number), None
    except json.JSONDecodeError as error:
        _fail(f"is not valid JSON: {error.msg} in column {error.colno}", error.lineno)
    except ConfigError:
        raise
    except ValueError as error:  # a number of too many digits
        _fail(f"is not valid JSON: {error}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            _fail(f"the key {key[:100]!r} appears twice in the same mapping")
        found[key] = value
    return found


def _no_number(name: str) -> NoReturn:
    _fail(f"{name} is not a number in JSON")


def _write_json(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


# TOML


def _parse_toml(text: str) -> tuple[Any, LineOf | None]:
    import tomllib  # here, because it would take a tenth of the time of `import keras_lr`

    _check_work_of_toml(text)
    try:
        return tomllib.loads(text), None
    except ValueError as error:
        found = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        _fail(f"is not valid TOML: {str(error)[:300]}", int(found[1]) if found else None)


def _check_work_of_toml(text: str) -> None:
    """Refuse text that takes seconds to read: the reader passes a table's name for each key."""
    work = level = 0
    for number, line in enumerate(text.splitlines(), 1):
        name = _TABLE.match(line)
        key, _, value = line.partition("=")
        if name is not None:
            level = name[0].count(".") + 1
            work += NEW_PART * level
        elif value:
            work += level + NEW_PART * key.count(".")
        if line.count(".") > MAX_DOTS:
            dots = max(part.count(".") for part in _BETWEEN_KEYS.split(line))
            if dots > MAX_DOTS:
                _fail(f"must have at most {MAX_DOTS} dots in a key", number)
        if work > MAX_WORK:
            _fail("must have fewer and shorter names of tables and keys", number)


def _write_toml(config: dict[str, Any]) -> str:
    try:
        import tomli_w
    except ImportError as error:
        raise ImportError("Writing TOML needs tomli-w: pip install 'keras-lr[config]'") from error
    return tomli_w.dumps(_without_null(config))


def _without_null(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_null(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_without_null(item) for item in data]
    return "none" if data is None else data


# YAML


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML needs PyYAML: pip install 'keras-lr[config]'") from error
    return yaml


def _parse_yaml(text: str) -> tuple[Any, LineOf | None]:
    yaml = _yaml()
    builder = _Builder()
    try:
        # Only events are parsed: no constructor runs, whatever tags the file has.
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.add_event(type(event).__name__.removesuffix("Event"), event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or str(error).partition("\n")[0]
        _fail(f"is not valid YAML: {words}", mark.line + 1 if mark else None)
    return builder.root, builder.line_of


class _Builder:
    """Builds plain data from the events of a YAML file, and knows the line of every key."""

    def __init__(self) -> None:
        self.root: Any = None
        self.documents = 0
        self.open: list[Any] = []
        self.keys: list[Any] = []
        self.anchors: dict[str, Any] = {}
        self.names: list[str | None] = []
        self.lines: dict[int, dict[Any, int]] = {}

    def add_event(self, what: str, event: Any) -> None:
        """Add the next event of the parser."""
        line = event.start_mark.line + 1
        if getattr(event, "tag", None) is not None:
            _fail(f"tags are refused: {event.tag[:100]}", line)
        if what == "DocumentStart":
            self.documents += 1
            if self.documents > 1:
                _fail("must be one document", line)
        elif what == "Alias":
            if event.anchor not in self.anchors:
                _fail(
                    f"the alias *{event.anchor[:100]} has no anchor before it",
                    line,
                )
            self.add_value(self.anchors[event.anchor], line)
        elif what == "Scalar":
            value = _scalar(event.value) if event.implicit[0] else event.value
            self.name(event.anchor, value)
            self.add_value(value, line)
        elif what in ("SequenceStart", "MappingStart"):
            if len(self.open) >= IN_A_FILE.levels:
                _fail(_TOO_DEEP, line)
            value = [] if what == "SequenceStart" else {}
            self.lines[id(value)] = {}
            self.add_value(value, line)
            self.open.append(value)
            self.keys.append(_NO_KEY)
            self.names.append(event.anchor)
        elif what in ("SequenceEnd", "MappingEnd"):
            self.keys.pop()
            # Only at its end: otherwise a value could contain itself.
            self.name(self.names.pop(), self.open.pop())

    def name(self, anchor: str | None, value: Any) -> None:
        """Remember a value that aliases may repeat."""
        if anchor is not None:
            self.anchors[anchor] = value

    def add_value(self, value: Any, line: int) -> None:
        """Add a value to the innermost list or mapping."""
        if not self.open:
            self.root = value
            return
        inner = self.open[-1]
        if isinstance(inner, list):
            self.lines[id(inner)][len(inner)] = line
            inner.append(value)
        elif self.keys[-1] is _NO_KEY:
            if isinstance(value, list | dict):
                _fail("a key must be a word", line)
            if value in inner:
                _fail(f"the key {str(value)[:100]!r} appears twice in the same mapping", line)
            self.lines[id(inner)][value] = line
            self.keys[-1] = value
        else:
            inner[self.keys[-1]] = value
            self.keys[-1] = _NO_KEY

    def line_of(self, place: Place) -> int:
        """Return the line of a place in the file."""
        data, line = self.root, 1
        for key in place.path():
            line = self.lines.get(id(data), {}).get(key, line)
            try:
                data = data[key]
            except (KeyError, IndexError, TypeError):
                break
        return line


_NO_KEY: Any = object()


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    except ValueError:  # too many digits
        pass
    return text


def _write_yaml(config: dict[str, Any]) -> str:
    yaml = _yaml()

    class Dumper(yaml.SafeDumper):  # type: ignore[name-defined]
        """Dumper that quotes text which YAML 1.2 would read as a number."""

    number = re.compile(f"^(?:{_FLOAT.pattern})$")
    Dumper.add_implicit_resolver("tag:yaml.org,2002:str-quoted", number, list("-+.0123456789"))
    return yaml.dump(
        config,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )


def _parse_any(text: str) -> tuple[Any, LineOf | None]:
    for parse in (_parse_json, _parse_toml):
        try:
            return parse(text)
        except ConfigError:
            continue
    return _parse_yaml(text)


_PARSERS: dict[str, Parser] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
    ".json": _parse_json,
}
ENDINGS = (*_PARSERS,)
"""Extensions of config files."""
_WRITERS: dict[str, Callable[[dict[str, Any]], str]] = {
    ".yaml": _write_yaml,
    ".yml": _write_yaml,
    ".toml": _write_toml,
    ".json": _write_json,
}
