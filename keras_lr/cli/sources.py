"""Sources of configs on the command line: a file, standard input, or the text itself."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

STANDARD_INPUT = "-"

_TEXT = re.compile(r"[{\n]|:\s|\s=\s")
"""Characters that the text of a config has, and the name of a file hardly ever."""


class ConfigSource(NamedTuple):
    """Where a config comes from."""

    argument: str
    """The argument on the command line."""

    @property
    def is_text(self) -> bool:
        """Whether the argument is the config itself."""
        return bool(_TEXT.search(self.argument)) and not os.path.exists(self.argument)

    @property
    def is_file(self) -> bool:
        """Whether the argument names a file."""
        return self.argument != STANDARD_INPUT and not self.is_text

    def __str__(self) -> str:
        """Return the name of the config in messages."""
        if self.is_text:
            return "inline"
        return self.argument if self.is_file else "standard input"

    def load(self) -> list[Any]:
        """Return the callbacks that the config describes.

        Raises:
            ConfigError: If the config is wrong.
            OSError: If the file cannot be read.
        """
        from keras_lr.config import load
        from keras_lr.config.files import ENDINGS, MAX_BYTES, load_text

        if not self.argument.strip():
            raise FileNotFoundError(
                "an argument is empty: give a file, - for standard input, or the text of a config, "
                "which looks like 'CosineDecay: {initial_lr: 0.1}'"
            )
        if self.is_file:
            path = Path(self.argument)
            if path.suffix.lower() not in ENDINGS and not path.exists():
                raise FileNotFoundError(
                    f"{path}: no such file, and not the text of a config, which looks like "
                    "'CosineDecay: {initial_lr: 0.1}'"
                )
            return load(path)
        content = self.argument.encode() if self.is_text else sys.stdin.buffer.read(MAX_BYTES + 1)
        return load_text(content, str(self))


def display_names(sources: Sequence[ConfigSource]) -> dict[ConfigSource, str]:
    """Return the name of each config in a drawing; a text is its own name."""
    distinct = list(dict.fromkeys(sources))
    files = short_names([Path(one.argument) for one in distinct if one.is_file])

    def name(source: ConfigSource) -> str:
        if source.is_file:
            return files[Path(source.argument)]
        return source.argument if source.is_text else str(source)

    return {source: name(source) for source in distinct}


def short_names(files: Sequence[Path]) -> dict[Path, str]:
    """Return each file's name, or its path if several files have the same name."""
    names = [file.name for file in dict.fromkeys(files)]
    return {file: file.name if names.count(file.name) == 1 else str(file) for file in files}
