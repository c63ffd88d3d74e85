"""`StateFiles`: the states of members in a folder, each under a hash of its line."""

from __future__ import annotations

import hashlib
import json
import pathlib
import pickle
from typing import Any

from keras_lr._files import atomic_write
from keras_lr._keras.state.snapshot import ModelState
from keras_lr.search.fingerprint import digest
from keras_lr.search.population.line import Line

CHECKSUM = 32
"""Bytes of the checksum before the state in a file."""


def export_state(state: Any) -> ModelState | None:
    """Return an engine's state as plain data; None if there is none or it cannot be exported."""
    if state is None or isinstance(state, ModelState):
        return state
    exported: ModelState | None = state.export()
    return exported


class StateFiles:
    """Files of states, which save the time to train a line again.

    If a state is missing, damaged or cannot be written, only that time is lost.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        """Use a folder, which need not exist."""
        self.folder = folder

    def save(self, line: Line, state: Any) -> None:
        """Write the final state of a line.

        Raises:
            OSError: If the file cannot be written.
        """
        exported = export_state(state)
        if exported is None:
            return
        try:
            content = pickle.dumps(exported)
        except Exception:
            return  # a user's object holds something that cannot be pickled
        with atomic_write(self._path(line), "wb") as file:
            file.write(_checksum(content) + content)

    def load(self, line: Line) -> ModelState | None:
        """Return the final state of a line; None if there is no intact file of it."""
        try:
            content = self._path(line).read_bytes()
        except FileNotFoundError:
            return None
        checksum, content = content[:CHECKSUM], content[CHECKSUM:]
        if checksum != _checksum(content):
            return None
        state: ModelState = pickle.loads(content)
        return state

    def delete_before(self, rounds: int) -> None:
        """Delete the states of lines that have fewer rounds."""
        for path in self.folder.glob("*.state"):
            number = path.name.partition("-")[0]
            if number.isdigit() and int(number) < rounds:
                path.unlink(missing_ok=True)

    def _path(self, line: Line) -> pathlib.Path:
        name = digest(json.dumps([line.seed, line.values]))
        return self.folder / f"{len(line.values)}-{name}.state"


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()
