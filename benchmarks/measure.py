"""What the benchmarks share: interleaved pairs, their statistics, and the table.

A shared machine drifts, so no time is reported by itself. A figure is the median of ratios, each of
two runs that follow one another, with the quartiles and the standard error of that median. Many
pairs of short runs tell more than few pairs of long ones, because less drift fits between two short
runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PAIRS = 11


@dataclasses.dataclass
class Row:
    """One line of a table: the time of something over the time of what it is compared with."""

    what: str
    against: str
    ratios: list[float]
    """One ratio per pair; or the figure itself, if it needs no pair."""
    cpu: list[float] = dataclasses.field(default_factory=list)
    """The same for the processor time of the process, which other processes disturb less."""
    goal: float | None = None
    """The most that the median may be; None for a row that is shown for comparison."""
    least: bool = False
    """Whether the goal is the least instead."""
    backend: str = ""
    unit: str = ""

    @property
    def median(self) -> float:
        return float(np.median(self.ratios))

    @property
    def quartiles(self) -> tuple[float, float]:
        low, high = np.percentile(self.ratios, [25, 75])
        return float(low), float(high)

    @property
    def error(self) -> float:
        """Standard error of the median, from the quartiles of a normal distribution."""
        low, high = self.quartiles
        return float(1.25 * (high - low) / 1.35 / len(self.ratios) ** 0.5)

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.median >= self.goal if self.least else self.median <= self.goal

    def cells(self) -> list[str]:
        low, high = self.quartiles
        several = len(self.ratios) > 1
        sign = "≥" if self.least else "≤"
        return [
            self.what,
            self.against,
            self.number(self.median),
            f"{self.error:.3f}" if several else "",
            f"{self.number(low)} to {self.number(high)}" if several else "",
            self.number(float(np.median(self.cpu))) if self.cpu else "",
            "" if self.goal is None else f"{sign} {self.number(self.goal)}",
            {None: "", True: "yes", False: "no"}[self.met],
        ]

    def number(self, value: float) -> str:
        digits = (
            0 if abs(value) >= 100 or value == int(value) != 1 else 1 if abs(value) >= 10 else 3
        )
        return f"{value:,.{digits}f}{self.unit}"


HEAD = ["what", "against", "median", "±", "quartiles", "CPU", "goal", "met"]


def once(run: Callable[[], Any]) -> tuple[float, float]:
    """Run and return seconds by the clock and by the processor, or the two that ``run`` returns."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    timed = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return timed if isinstance(timed, tuple) else (wall, cpu)


def pairs(
    new: Callable[[], Any], old: Callable[[], Any], count: int
) -> tuple[list[float], list[float]]:
    """Run two things by turns, in alternating order, and return their ratios, new over old."""
    ratios, cpu = [], []
    for i in range(count):
        if i % 2:
            b, a = once(old), once(new)
        else:
            a, b = once(new), once(old)
        ratios.append(a[0] / b[0])
        cpu.append(a[1] / b[1])
    return ratios, cpu


def table(rows: Sequence[Row], markdown: bool = False) -> str:
    """Return the rows as text."""
    lines = [HEAD, *(row.cells() for row in rows)]
    if markdown:
        body = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([body[0], "|---|---|---:|---:|---:|---:|---:|---|", *body[1:]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    texts = []
    for line in lines:
        cells = [
            cell.rjust(width) if 1 < i < 7 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        texts.append("  ".join(cells).rstrip())
    return "\n".join(texts)


def at_least_one(text: str) -> int:
    """Read a count from a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1. Received: {text}")
    return int(text)


@dataclasses.dataclass
class Effort:
    """How much to measure."""

    small: bool = False
    """Just enough to show that it runs."""
    most: int | None = None
    """The most pairs of runs for a figure."""

    def pairs(self, usual: int) -> int:
        """Return how many pairs to run of something that usually has ``usual``."""
        return 1 if self.small else min(usual, self.most or usual)

    def arguments(self) -> list[str]:
        """Return the command-line options for this effort."""
        return ["--small"] * self.small + ([f"--pairs={self.most}"] if self.most else [])

    @classmethod
    def of(cls, chosen: argparse.Namespace) -> Effort:
        """Return the effort that a command line asks for."""
        return cls(chosen.small, chosen.most)

    @staticmethod
    def options(parser: argparse.ArgumentParser) -> None:
        """Add the options to a command line."""
        parser.add_argument("--small", action="store_true", help="show only that it runs")
        parser.add_argument(
            "--pairs",
            type=at_least_one,
            dest="most",
            metavar="N",
            help="at most N pairs of runs for a figure: faster and less exact",
        )


def main(rows: Callable[[Effort], list[Row]], summary: str | None) -> None:
    """Run one benchmark from the command line."""
    parser = argparse.ArgumentParser(description=(summary or "").partition("\n")[0])
    Effort.options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every ratio to a file")
    chosen = parser.parse_args()
    found = rows(Effort.of(chosen))
    print(table(found))
    if chosen.json:
        chosen.json.write_text(json.dumps([dataclasses.asdict(row) for row in found], indent=1))
