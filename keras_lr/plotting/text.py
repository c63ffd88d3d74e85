"""Text that fits a terminal: lines, names, tables."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

NARROWEST, WIDEST = 30, 100
"""Limits of the characters in a line, however narrow or wide the terminal is."""


def line_width() -> int:
    """Return how many characters to use in a line."""
    return max(NARROWEST, min(shutil.get_terminal_size().columns, WIDEST))


def wrap(text: str, indent: str = "") -> str:
    """Return a paragraph wrapped to the terminal, each line with the same indent."""
    return join_words(text.split(), line_width(), indent, indent)


def join_words(
    words: Iterable[str], width: int, indent: str = "", indent_later: str = "", end: str = ""
) -> str:
    r"""Return words in lines that are broken only between words.

    Args:
        words: The words; one that is too long gets its own line.
        width: Characters in a line.
        indent: Start of the first line.
        indent_later: Start of later lines.
        end: End of every line except the last.

    >>> print(join_words(["cp", "'a b.csv'", "c.csv"], 16, end=" \\"))
    cp 'a b.csv' \
    c.csv
    """
    first, *others = words
    lines = [indent + first]
    for word in others:
        if len(f"{lines[-1]} {word}{end}") > width:
            lines.append(indent_later + word)
        else:
            lines[-1] += f" {word}"
    return f"{end}\n".join(lines)


def shorten(text: str, width: int) -> str:
    """Return a text on one line, without its middle if it is too long.

    >>> shorten("runs/2026/cosine.csv", 12)
    'runs/...csv'
    """
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    kept = max(2, width - 3)
    return f"{text[: kept - kept // 2]}...{text[-(kept // 2) :]}"


def emphasize(text: str) -> str:
    """Return a text in bold, if the output is a terminal and ``NO_COLOR`` is not set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stdout.isatty() else f"\x1b[1m{text}\x1b[0m"


def align_columns(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return rows of text as aligned columns, the first ones to the left, the others to the right.

    Args:
        rows: The rows, all with the same number of columns.
        left: Number of columns that are aligned to the left.
    """
    columns = range(len(rows[0]))
    widths = [max(len(row[column]) for row in rows) for column in columns]
    return "\n".join(
        "  ".join(
            text.ljust(size) if column < left else text.rjust(size)
            for column, (text, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text, the head first, as columns, or as lists if columns do not fit."""
    width = line_width()
    head, *others = rows
    table = align_columns([head, *((shorten(row[0], width // 3), *row[1:]) for row in others)])
    if max(map(len, table.splitlines())) <= width:
        return table
    lines = []
    for name, *values in others:
        pairs = align_columns(list(zip(head[1:], values, strict=True)))
        lines += [shorten(name, width), textwrap.indent(pairs, "  ")]
    return "\n".join(lines)
