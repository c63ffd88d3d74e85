"""State files of callbacks: written whole or not at all, and refused if damaged."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Collection, Iterable
from typing import Any, Self

import numpy as np

from keras_lr._files import (
    PathLike,
    atomic_write,
    check_writable,
    is_regular_file,
    shorten_name,
)
from keras_lr._hints import warn_user

VERSION = 1
CHECKSUM = "keras_lr_checksum"


class StateError(ValueError):
    """Raised if a state file cannot be used; the message says why and what to do.

    >>> raise unusable("run/plateau.json", "it is truncated or damaged")
    Traceback (most recent call last):
    keras_lr._state.StateError: The state file run/plateau.json cannot be used: it is truncated or
    damaged. Restore it from a copy, or delete it and train from the first epoch. If it is not a
    state file, pass another path.
    """


class StateFile:
    """File of one callback's states, each under the number of the epoch that follows it.

    All epochs are kept: a checkpoint may be of any of them, and may be written just before or just
    after this file.
    """

    def __init__(self, path: PathLike, owner: str, config: dict[str, Any]) -> None:
        """Name the file, and the class and the arguments of the callback that it belongs to."""
        self.path = pathlib.Path(path)
        self.owner = owner
        self.config = json.loads(json.dumps(config))

    @classmethod
    def of(cls, callback: Any) -> Self:
        """Return the file at a callback's ``state_path``; only equal arguments can use it."""
        own = {k: v for k, v in callback.get_config().items() if k not in ("state_path", "verbose")}
        return cls(callback.state_path, type(callback).__name__, own)

    def load(self) -> dict[int, dict[str, Any]]:
        """Return the states by epoch; none if the file does not exist.

        Raises:
            StateError: If the file is truncated, damaged or of another callback.
        """
        require_file(self.path)
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as error:
            raise unusable(self.path, f"it is truncated or damaged ({error})") from error
        if not isinstance(content, dict) or "keras_lr_state" not in content:
            raise unusable(self.path, "it is not a state file of keras_lr")
        if content["keras_lr_state"] != VERSION:
            raise unusable(self.path, f"it has format {content['keras_lr_state']}, not {VERSION}")
        if content.get("checksum") != checksum_of(content):
            raise unusable(self.path, "it is damaged: its checksum does not match")
        if content["callback"] != self.owner or content["config"] != self.config:
            raise unusable(
                self.path,
                f"it belongs to {content['callback']}({_arguments(content['config'])}), "
                f"not to {self.owner}({_arguments(self.config)})",
            )
        return {int(epoch): state for epoch, state in content["states"].items()}

    def lacks_epoch(self, epoch: int, known: Iterable[int]) -> StateError:
        """Return the error for a fit that begins at an epoch of which there is no state.

        Args:
            epoch: The epoch.
            known: The epochs of which there are states.
        """
        known = list(known)
        if not known and not self.path.exists():
            return _missing(self.path)
        epochs = ", ".join(map(str, known))
        held = "the state for epoch" if len(known) == 1 else "the states for the epochs"
        return unusable(
            self.path,
            f"the fit begins at epoch {epoch}, but the file has "
            f"{f'{held} {epochs}' if known else 'no states'}",
        )

    def save(self, states: dict[int, dict[str, Any]]) -> None:
        """Write the states by epoch.

        Raises:
            StateError: If the path leads to something that is not a file.
        """
        require_file(self.path)
        content = {
            "keras_lr_state": VERSION,
            "callback": self.owner,
            "config": self.config,
            "states": {str(epoch): state for epoch, state in states.items()},
        }
        content["checksum"] = checksum_of(content)
        with atomic_write(self.path) as file:
            file.write(json.dumps(content))  # `json.dump` encodes in Python


class ArrayFiles:
    """Files of arrays beside a state file, each under the number of an epoch."""

    def __init__(self, path: PathLike, word: str) -> None:
        """Name the files ``<path>.<word>-<epoch>.npz``."""
        # Room for epochs of nine digits.
        self._start = shorten_name(path, room=len(f".{word}-123456789.npz"))
        self._word = word

    def path(self, epoch: int) -> pathlib.Path:
        """Return the file of an epoch."""
        return self._start.with_name(f"{self._start.name}.{self._word}-{epoch}.npz")

    def check(self) -> None:
        """Check before a fit that files can be written.

        Raises:
            StateError: If one of them is a folder, a pipe or a device.
            OSError: If no file can be written.
        """
        for path in self._existing():
            require_file(path)
        check_writable(self.path(0))

    def delete_all_but(self, epochs: Collection[int]) -> None:
        """Delete the files of other epochs."""
        needed = {self.path(epoch) for epoch in epochs}
        for path in self._existing():
            if path not in needed and is_regular_file(path):
                # Another process may have deleted it.
                path.unlink(missing_ok=True)

    def _existing(self) -> list[pathlib.Path]:
        pattern = f"{self._start.name}.{self._word}-"
        numbered = re.compile(rf"{re.escape(pattern)}\d+\.npz")
        found = self._start.parent.glob(f"{glob.escape(pattern)}*.npz")
        return [path for path in found if numbered.fullmatch(path.name)]


def save_arrays(path: PathLike, arrays: dict[str, np.ndarray], known: bytes = b"") -> bytes:
    """Write arrays by name, unless the file holds them already.

    Args:
        path: The file, an ``.npz`` archive.
        arrays: The arrays.
        known: What this function returned when it wrote the arrays that the file holds.

    Returns:
        The checksum of the arrays.

    Raises:
        StateError: If the path leads to something that is not a file.
    """
    require_file(path)
    checksum = _checksum_of(arrays)
    if checksum.tobytes() != known:
        with atomic_write(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            # Like `np.savez`, which cannot store arrays named "file" or "allow_pickle".
            for name, array in {**_escaped(arrays), CHECKSUM: checksum}.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return checksum.tobytes()


def load_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """Return the arrays that `save_arrays` wrote.

    Raises:
        StateError: If the file is missing, truncated or damaged.
    """
    require_file(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in stored.files}
    except FileNotFoundError as error:
        raise _missing(path) from error
    except PermissionError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        # NumPy takes what it does not know for a pickle, and advises to load it unsafely.
        what = "not an .npz archive of keras_lr" if "allow_pickle" in str(error) else error
        raise unusable(path, f"it is truncated or damaged ({what})") from error
    # The archive's own checksums do not detect a missing member.
    checksum = arrays.pop(CHECKSUM, np.zeros(0))
    arrays = {name.removeprefix(CHECKSUM): array for name, array in arrays.items()}
    if not np.array_equal(checksum, _checksum_of(arrays)):
        raise unusable(path, "it is damaged or not a state file of keras_lr")
    return arrays


def _escaped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays under names that differ from that of the checksum."""
    return {
        CHECKSUM + name if name.startswith(CHECKSUM) else name: array
        for name, array in arrays.items()
    }


def unusable(path: PathLike, reason: str) -> StateError:
    """Return the error for a state file that cannot be used."""
    return StateError(
        f"The state file {path} cannot be used: {reason}. Restore it from a copy, or delete it and "
        "train from the first epoch. If it is not a state file, pass another path."
    )


def _missing(path: PathLike) -> StateError:
    """Return the error for a state file that does not exist."""
    return StateError(
        f"The state file {path} does not exist. Restore it from a copy, or leave out `state_path`, "
        "or train from the first epoch."
    )


def warn_of_fresh_start(callback: Any, epoch: int, wanted: str = "") -> None:
    """Warn of a callback that has no state of the epochs before the first one of a fit.

    Args:
        callback: The callback.
        epoch: The first epoch of the fit.
        wanted: A sentence on what to pass where that is wanted, if there is such an argument.
    """
    warn_user(
        f"{callback!r} starts afresh at epoch {epoch + 1}: it has no state of the fit before. Use "
        "the same object again, or give it a state_path in both fits." + wanted
    )


def check_state_path(callback: Any, session: Any) -> None:
    """Check before a fit, rather than after its first epoch, that a state can be written.

    Args:
        callback: The callback, whose ``state_path`` may be None.
        session: The session of the fit, with the callbacks that have joined it so far.

    Raises:
        StateError: If the path leads to a folder, a pipe or a device.
        ValueError: If another callback writes to the same file.
        OSError: If no file can be written there.
    """
    path = callback.state_path
    if path is None:
        return
    require_file(path)
    for other in (*session.controllers, *session.members):
        theirs = getattr(other, "state_path", None)
        if other is callback or theirs is None:
            continue
        if os.path.realpath(theirs) == os.path.realpath(path):
            raise ValueError(
                f"{type(callback).__name__} and {type(other).__name__} would overwrite each "
                f"other's state. Give each its own file. Received: state_path={path!r} in both"
            )
    check_writable(path)


def check_holds_arrays(path: PathLike, names: Iterable[str]) -> None:
    """Refuse to replace a file that `save_arrays` did not write; an empty file is accepted.

    Args:
        path: The file, which need not exist.
        names: Names of arrays that the file must hold.

    Raises:
        StateError: If the file holds something else.
    """
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                return
            with zipfile.ZipFile(file) as archive:
                members = set(archive.namelist())
    except FileNotFoundError:
        return
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise unusable(path, f"it is truncated or damaged ({error})") from error
    if not {f"{name}.npy" for name in (*names, CHECKSUM)} <= members:
        raise unusable(path, "it is not a state file of this kind, which a new one may replace")


def require_file(path: PathLike) -> None:
    """Refuse a path that leads to a folder, or to a pipe, which cannot be read again.

    Raises:
        StateError: If the path leads to something that is not a file.
    """
    if not is_regular_file(path):
        raise StateError(
            f"The state file {path} cannot be used: it is a folder, a pipe or a device. "
            "Give `state_path` the name of a file."
        )


def checksum_of(content: dict[str, Any]) -> str:
    """Return the checksum of plain data, leaving out its entry ``"checksum"``."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _checksum_of(arrays: dict[str, np.ndarray]) -> np.ndarray:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _arguments(config: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in config.items())
