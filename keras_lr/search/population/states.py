"""`StateFiles`: the states of members in a folder, each under a hash of its line."""

from __future__ import annotations

import hashlib
import json
import pathlib
import pickle
import re
from typing import Any

from keras_lr._files import atomic_write, is_regular_file
from keras_lr._keras.state.snapshot import ModelState
from keras_lr._state import StateError
from keras_lr.search.identity.values import digest
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
        """Return the final state of a line; None if there is no intact file of it.

        Raises:
            StateError: If there is something else than a file.
        """
        path = self._path(line)
        if not is_regular_file(path):
            raise StateError(
                f"The state file {path} cannot be used: it is a folder, a pipe or a device. Delete "
                "it, and its line will be trained again."
            )
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        checksum, content = content[:CHECKSUM], content[CHECKSUM:]
        if checksum != _checksum(content):
            return None
        try:
            state = pickle.loads(content)
        except Exception:
            return None  # other versions of the packages wrote it
        return state if isinstance(state, ModelState) else None

    def delete_before(self, rounds: int) -> None:
        """Delete the states of lines that have fewer rounds."""
        for path in self.folder.glob("*.state"):
            own = re.fullmatch(r"(\d+)-[0-9a-f]{24}\.state", path.name)
            if own and int(own[1]) < rounds and is_regular_file(path):
                path.unlink(missing_ok=True)

    def _path(self, line: Line) -> pathlib.Path:
        name = digest(json.dumps([line.seed, line.values]))
        return self.folder / f"{len(line.values)}-{name}.state"


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()
