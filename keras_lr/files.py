"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def whole(path: PathLike, mode: str = "w") -> Iterator[Any]:
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
