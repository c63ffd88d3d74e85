"""`SweepRecord`: the outcomes of a sweep in a folder, one JSON line each.

Each line has a checksum, so that an altered line is refused.

Several processes may write to the file: it is locked while a line is written, if the system has
such locks (Windows has none). An incomplete line of a killed process is cut off by the next process
that writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from keras_lr._files import (
    AnyPath,
    check_writable,
    is_regular_file,
    make_folder,
    naming,
    path_text,
)
from keras_lr._state import StateError, checksum_of
from keras_lr.search.identity.fingerprint import FORMAT, changed
from keras_lr.search.results.rows import Criterion
from keras_lr.search.trials.description import Group, Outcome, Stretch, Trial
from keras_lr.search.versions import versions

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSION = 1

START = b'{"sweep": '
"""How the first line starts, also in the record of a population."""


class _OtherRecord(Exception):
    """Raised if the record of a sweep is read as that of a population, or the other way round."""


class SweepRecord:
    """Outcomes of a sweep in a folder."""

    file: ClassVar[str] = "trials.jsonl"
    noun: ClassVar[str] = "sweep"
    kind_of_trial: ClassVar[type[Trial]] = Trial
    is_of_population: ClassVar[bool] = False

    def __init__(self, directory: AnyPath) -> None:
        """Read the record in a folder, if there is one; write nothing.

        Raises:
            StateError: If a line is damaged, or if the record is not a file or not such a record.
        """
        self.path = pathlib.Path(path_text(directory)) / self.file
        if not is_regular_file(self.path):
            raise StateError(
                f"The record {self.path} cannot be used: it is a folder, a pipe or a device. Pass "
                "another directory."
            )
        self.fingerprint: dict[str, Any] = {}
        self.criterion: Criterion | None = None
        self.groups: list[Group] = []
        self.outcomes: dict[tuple[Trial, tuple[int, ...]], Outcome] = {}
        self._offset = self._lines = 0
        with (
            contextlib.suppress(FileNotFoundError),
            naming(str(self.path)),
            open(self.path, "rb", buffering=0) as file,
            _locked(file, writing=False),
        ):
            self._read_new_lines(file)

    @classmethod
    def open_to_write(cls, directory: AnyPath | None) -> Self | None:
        """Return the record in a folder, before anything is built; None if there is no folder.

        Raises:
            StateError: If the record is damaged or not such a record.
            OSError: If the folder cannot be written.
        """
        if directory is None:
            return None
        record = cls(directory)
        record.check_writable()
        return record

    def check_writable(self) -> None:
        """Check that outcomes can be written.

        Raises:
            OSError: If the folder cannot be written.
        """
        check_writable(self.path)

    def known_criterion(self) -> Criterion:
        """Return how the trials of the record are compared.

        Raises:
            FileNotFoundError: If there is no such record in the folder.
        """
        if self.criterion is None:
            raise FileNotFoundError(
                f"There is no {self.noun} in {self.path.parent}, which has no file {self.file}."
            )
        return self.criterion

    def write_header(
        self, fingerprint: dict[str, Any], criterion: Criterion, groups: list[Group]
    ) -> None:
        """Write which sweep is run, or raise if the record is of another one.

        Raises:
            StateError: If something that determines the results of a trial has changed.
            OSError: If the folder cannot be written.
        """
        # JSON has no tuples.
        fingerprint = json.loads(json.dumps(fingerprint))
        make_folder(str(self.path.parent))
        with self._open() as file:
            self._read_new_lines(file)
            if self.fingerprint and self.fingerprint.get("format") != FORMAT:
                raise StateError(
                    f"The record {self.path} was written by another version of keras_lr, which "
                    "describes the schedule, the callbacks and `build` differently, so that it is "
                    "unknown whether they have changed. Pass another directory, or delete this one "
                    f"to start again. The results of this {self.noun} can still be loaded."
                )
            if different := changed(self.fingerprint, fingerprint):
                raise StateError(
                    f"The record {self.path} is of another {self.noun}. Changed: "
                    f"{', '.join(different)}. Pass another directory, or delete this one to start "
                    "again."
                )
            self._append_line(
                file,
                {
                    "sweep": VERSION,
                    "fingerprint": fingerprint,
                    "criterion": dataclasses.asdict(criterion),
                    "groups": [list(group) for group in groups],
                },
            )
            self._read_new_lines(file)

    def find(self, stretch: Stretch) -> Outcome | None:
        """Return the recorded outcome of a stretch; None if there is none, or it failed."""
        found = self.outcomes.get((stretch.trial, stretch.stops))
        return None if found is None or found.status == "failed" else found

    def add_outcome(self, outcome: Outcome) -> None:
        """Write an outcome.

        Raises:
            OSError: If it cannot be written; the file is then unchanged.
        """
        with self._open() as file:
            self._read_new_lines(file)
            self._append_line(file, {"outcome": _to_plain(outcome), "made by": versions()})
            self._read_new_lines(file)

    @contextlib.contextmanager
    def _open(self) -> Iterator[io.FileIO]:
        # A buffer would be written again when the file is closed, even after an error.
        with (
            naming(str(self.path)),
            open(self.path, "a+b", buffering=0) as file,
            _locked(file),
        ):
            yield file

    def _read_new_lines(self, file: io.FileIO) -> None:
        """Read the complete lines that were written since the last call."""
        if file.seek(0, os.SEEK_END) < self._offset:
            raise StateError(
                f"The record {self.path} was cut or replaced while it was in use. Restore it from "
                "a copy, or delete it to start again."
            )
        file.seek(self._offset)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        start = data[: len(START)].rstrip(b"\0")
        if not self._offset and not whole and not START.startswith(start):
            # More than a line that a kill has cut off, which the next writer cuts away.
            raise StateError(
                f"{self.path} cannot be used: it is not the record of a {self.noun}. Pass another "
                "directory."
            )
        for line in data[:whole].splitlines():
            self._lines += 1
            try:
                self._take_in(json.loads(line))
            except _OtherRecord as error:
                raise StateError(f"{self.path} cannot be used: {error}") from None
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
                problem = error if isinstance(error, ValueError) else repr(error)
                raise StateError(
                    f"Line {self._lines} of {self.path} is damaged: {problem}. Delete the line, "
                    "and its trial will be trained again."
                ) from error
        self._offset += whole

    def _take_in(self, line: dict[str, Any]) -> None:
        if line.get("checksum") != checksum_of(line):
            raise ValueError("its checksum does not match")
        if "outcome" in line:
            if self.criterion is None:
                raise ValueError(f"no line before it says what {self.noun} it is of")
            outcome = _from_plain(line["outcome"], self.kind_of_trial)
            self.outcomes[outcome.key] = outcome
            return
        if line["sweep"] > VERSION:
            raise ValueError(f"version {line['sweep']}, which this keras_lr does not know")
        if ("parameters" in line["fingerprint"]) != self.is_of_population:
            raise _OtherRecord(f"it is not the record of a {self.noun}. Pass another directory.")
        self.criterion = Criterion(**line["criterion"])
        self.groups = list(dict.fromkeys([*self.groups, *(Group(*one) for one in line["groups"])]))
        for name, value in line["fingerprint"].items():
            if isinstance(value, dict):
                value = {**self.fingerprint.get(name, {}), **value}
            self.fingerprint[name] = value

    def _append_line(self, file: io.FileIO, line: dict[str, Any]) -> None:
        """Append a line, whole or not at all, to a file that was read to its end."""
        checked = {**line, "checksum": checksum_of(line)}
        data = json.dumps(checked, allow_nan=False).encode() + b"\n"
        file.truncate(self._offset)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            os.truncate(self.path, self._offset)
            raise


@contextlib.contextmanager
def _locked(file: io.FileIO, writing: bool = True) -> Iterator[None]:
    """Lock a file inside the context: no other process may write to it, or read while writing."""
    if fcntl is None:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX if writing else fcntl.LOCK_SH)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _to_plain(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain data for JSON, which has only finite numbers."""
    plain = {field.name: getattr(outcome, field.name) for field in dataclasses.fields(outcome)}
    del plain["state"]
    plain["trial"] = dataclasses.asdict(outcome.trial)
    plain["logs"] = {name: [_number(one) for one in some] for name, some in outcome.logs.items()}
    plain["test"] = {name: _number(value) for name, value in outcome.test.items()}
    return plain


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _from_plain(plain: dict[str, Any], kind_of_trial: type[Trial]) -> Outcome:
    return Outcome(
        **plain
        | {
            "trial": kind_of_trial.from_plain(plain["trial"]),
            "stops": tuple(plain["stops"]),
            "logs": {name: [float(one) for one in some] for name, some in plain["logs"].items()},
            "marks": [(steps, seconds) for steps, seconds in plain["marks"]],
            "test": {name: float(value) for name, value in plain["test"].items()},
        }
    )
