"""Files that appear whole or not at all, and the state of a callback in one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

PathLike = str | os.PathLike[str]

VERSION = 1
CHECKSUM = "keras_lr_checksum"


@contextlib.contextmanager
def atomic_write(path: PathLike, mode: str = "w") -> Iterator[Any]:
    """Open a file for writing that takes the place of ``path`` only when all is written.

    A reader, or a process that is killed, finds the old file or the new one and nothing between.
    """
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with open(handle, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise


class StateError(ValueError):
    """A state file cannot be used; the message says why and what to do.

    >>> raise unusable("run/plateau.json", "it is truncated or damaged")
    Traceback (most recent call last):
    keras_lr._files.StateError: The state file run/plateau.json cannot be used: it is truncated or
    damaged. Restore it from a copy, or delete it and train from the first epoch.
    """


class StateFile:
    """The states of one callback, each under the number of the epoch that it precedes.

    All epochs are kept, because a checkpoint may be of any of them and may be written just before
    or just after this file.
    """

    def __init__(self, path: PathLike, owner: str, config: dict[str, Any]) -> None:
        """Name the file and whom it belongs to."""
        self.path = pathlib.Path(path)
        self.owner = owner
        self.config = json.loads(json.dumps(config))

    @classmethod
    def of(cls, callback: Any) -> Self:
        """Return the file at a callback's ``state_path``, for callbacks of the same arguments."""
        own = {k: v for k, v in callback.get_config().items() if k not in ("state_path", "verbose")}
        return cls(callback.state_path, type(callback).__name__, own)

    def load(self) -> dict[int, dict[str, Any]]:
        """Return the states by epoch; none where the file does not exist.

        Raises:
            StateError: If the file is truncated, corrupt or of another callback.
        """
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise unusable(self.path, f"it is truncated or damaged ({error})") from error
        if not isinstance(content, dict) or "keras_lr_state" not in content:
            raise unusable(self.path, "it is no state file of keras_lr")
        if content["keras_lr_state"] != VERSION:
            raise unusable(self.path, f"it has format {content['keras_lr_state']}, not {VERSION}")
        if content.get("checksum") != _checksum(content):
            raise unusable(self.path, "it is damaged: its checksum does not fit")
        if content["callback"] != self.owner or content["config"] != self.config:
            raise unusable(
                self.path,
                f"it belongs to {content['callback']}({_arguments(content['config'])}), "
                f"not to {self.owner}({_arguments(self.config)})",
            )
        return {int(epoch): state for epoch, state in content["states"].items()}

    def save(self, states: dict[int, dict[str, Any]]) -> None:
        """Write the states by epoch."""
        content = {
            "keras_lr_state": VERSION,
            "callback": self.owner,
            "config": self.config,
            "states": {str(epoch): state for epoch, state in states.items()},
        }
        content["checksum"] = _checksum(content)
        with atomic_write(self.path) as file:
            file.write(json.dumps(content))  # `json.dump` encodes in Python


def save_arrays(path: PathLike, arrays: dict[str, np.ndarray], known: bytes = b"") -> bytes:
    """Write arrays by name; the file appears whole or not at all.

    Args:
        path: Where to.
        arrays: What.
        known: What this returned for the arrays that are in the file already, if any.

    Returns:
        What tells the arrays from others.
    """
    checksum = _checksum_of(arrays)
    if checksum.tobytes() != known:
        with atomic_write(path, "wb") as file:
            np.savez(file, **arrays, **{CHECKSUM: checksum})  # type: ignore[arg-type]
    return checksum.tobytes()


def load_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """Return the arrays that `save_arrays` wrote.

    Raises:
        StateError: If the file is missing, truncated or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in stored.files}
    except FileNotFoundError as error:
        raise StateError(
            f"The state file {path} does not exist. Restore it from a copy."
        ) from error
    except Exception as error:  # a damaged archive may raise anything
        raise unusable(path, f"it is truncated or damaged ({error})") from error
    # The archive's own checksums do not notice a member that is lost.
    checksum = arrays.pop(CHECKSUM, np.zeros(0))
    if not np.array_equal(checksum, _checksum_of(arrays)):
        raise unusable(path, "it is damaged or no state file of keras_lr")
    return arrays


def unusable(path: PathLike, reason: str) -> StateError:
    """Return the error for a state file that cannot be used."""
    return StateError(
        f"The state file {path} cannot be used: {reason}. Restore it from a copy, or delete it and "
        "train from the first epoch."
    )


def _checksum(content: dict[str, Any]) -> str:
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
