"""Files: atomic writing, whole or not at all, and which files are those of installed packages."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import pathlib
import re
import secrets
import stat
from collections.abc import Iterator
from typing import Any

PathLike = str | os.PathLike[str]

AnyPath = PathLike | bytes
"""What `path_text` takes."""

LONGEST_NAME = 255
"""Bytes in the name of a file, on every file system in common use."""

URL = "[A-Za-z][A-Za-z0-9+.-]+://|(gs|s3|hdfs):/"
"""Pattern of how a URL starts; `pathlib` turns two slashes into one."""

# A file that is mounted by itself cannot be replaced, and some folders admit no new file.
_IRREPLACEABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}


def path_text(path: AnyPath) -> str:
    """Return a path as a string, also one that was given as bytes.

    Raises:
        TypeError: If it is not a path.
        ValueError: If it contains a null character, which no file's path can, or if it is a URL,
            for which there would be a local folder named ``gs:``.
    """
    text = os.fsdecode(path)
    if "\0" in text:
        raise ValueError(f"A path must not hold a null character. Received: {text!r}")
    if re.match(URL, text):
        raise ValueError(
            "A path must lead to a file of this machine, and not be a URL. Use a file here, and "
            f"copy it from or to there. Received: {text!r}"
        )
    return text


@contextlib.contextmanager
def atomic_write(path: AnyPath, mode: str = "w") -> Iterator[Any]:
    """Open a file for writing that replaces ``path`` when everything is written.

    A reader, or a process that is killed, finds the old file or the new one, never anything in
    between. Links are followed; the mode and the owner of the file stay. A path that cannot be
    replaced without changing its kind is overwritten at the end instead: a pipe, a device, a file
    with several names, or a file in a folder that admits no new ones.

    Args:
        path: The file; its folder is made if it is missing.
        mode: ``"w"`` for text in UTF-8, or ``"wb"``.

    Raises:
        OSError: If the file cannot be written. The error names ``path``, and the old file stays.
    """
    path = path_text(path)
    make_folder(os.path.dirname(path) or ".", path)
    with naming(path):
        new = _create_beside(path)
    try:
        with naming(path, only={None, new}), _open(new, mode) as file:
            yield file
            file.flush()
            binary = file if "b" in mode else file.buffer
            if new is None:
                content = binary.getvalue()
            else:
                os.fsync(binary.fileno())
        with naming(path):
            if new is None:
                _overwrite(path, content)
            else:
                _replace(path, new)
    finally:
        if new is not None:
            pathlib.Path(new).unlink(missing_ok=True)


def check_writable(path: AnyPath) -> None:
    """Raise the errors that `atomic_write` would raise before writing; leave the file unchanged."""
    path = path_text(path)
    make_folder(os.path.dirname(path) or ".", path)
    with naming(path):
        new = _create_beside(path)
        if new is not None:
            os.unlink(new)


def make_folder(folder: str, path: str | None = None) -> None:
    """Create a folder if it is missing, also where a link leads to it.

    Args:
        folder: The folder.
        path: The path that an error names; by default the folder.

    Raises:
        OSError: If it cannot be created, or if there is something else.
    """
    with naming(path or folder):
        try:
            os.makedirs(os.path.realpath(folder), exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


def is_regular_file(path: PathLike) -> bool:
    """Return whether a path is free or leads to a file: not to a folder, pipe or device."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def naming(path: str, only: set[str | None] | None = None) -> Iterator[None]:
    """Make errors of the operating system name a path.

    Args:
        path: The path.
        only: The files whose errors are to name the path; by default all.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or (only is not None and error.filename not in only):
            raise
        raise OSError(error.errno, error.strerror, path) from error


def shorten_name(path: PathLike, room: int) -> pathlib.Path:
    """Return a path whose name leaves ``room`` bytes for an ending.

    A name that is too long keeps its beginning, followed by a hash of the whole name.

    >>> shorten_name("run/plateau.json", room=20).name
    'plateau.json'
    >>> len(shorten_name("n" * 250, room=20).name)
    235
    """
    path = pathlib.Path(path)
    name = os.fsencode(path.name)
    if len(name) <= LONGEST_NAME - room:
        return path
    digest = hashlib.sha256(name).hexdigest()[:16]
    kept = name[: LONGEST_NAME - room - len(digest)].decode(errors="ignore")
    return path.with_name(kept + digest)


def _create_beside(path: str) -> str | None:
    """Create a file that can replace ``path``; return None if ``path`` must be overwritten."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if (old and stat.S_ISDIR(old.st_mode)) or not os.path.basename(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if old and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    if old and (not stat.S_ISREG(old.st_mode) or old.st_nlink > 1 or _is_open_file(path)):
        return None
    # Short, because the name of the file itself may be as long as a name can be.
    new = os.path.join(os.path.dirname(os.path.realpath(path)), f".{secrets.token_hex(8)}.keras_lr")
    mode = stat.S_IMODE(old.st_mode) if old else 0o666
    try:
        # The kernel applies the umask, which a process cannot read without changing it.
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    except OSError as error:
        if old and error.errno in _IRREPLACEABLE:
            return None
        raise
    if old:
        try:
            own = os.stat(new)
            if (own.st_uid, own.st_gid) != (old.st_uid, old.st_gid):
                os.chown(new, old.st_uid, old.st_gid)
            os.chmod(new, mode)
        except OSError:
            os.unlink(new)
            return None
    return new


def _is_open_file(path: str) -> bool:
    """Return whether a path is another name of an open file, such as ``/dev/stdout``."""
    while os.path.islink(path):
        folder = os.path.realpath(os.path.dirname(path))
        if folder.startswith("/proc/"):
            return True
        path = os.path.join(folder, os.readlink(path))
    return False


def _open(new: str | None, mode: str) -> Any:
    """Open a new file, or a buffer if there is none."""
    binary = io.BytesIO() if new is None else open(new, "wb")  # noqa: SIM115
    return binary if "b" in mode else io.TextIOWrapper(binary, encoding="utf-8", newline="")


def _replace(path: str, new: str) -> None:
    try:
        os.replace(new, os.path.realpath(path))
    except OSError as error:
        if error.errno not in _IRREPLACEABLE:
            raise
        _overwrite(path, pathlib.Path(new).read_bytes())


def _overwrite(path: str, content: bytes) -> None:
    """Write to a file, a pipe or a device; a file is left unchanged if the disk is full."""
    if not os.path.isfile(path):
        with open(path, "wb") as file:
            file.write(content)
        return
    with open(path, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            # Append first: nothing else needs space.
            _write_all(file, content[size:])
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(size)
            raise
        file.seek(0)
        _write_all(file, content[:size])
        file.truncate(len(content))
        os.fsync(file.fileno())


def _write_all(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


@functools.cache
def is_installed_file(path: str) -> bool:
    """Return whether the file of some code is part of Python or an installed package.

    Args:
        path: The path, or what stands for one: ``<frozen os>``.
    """
    return path.startswith(("<frozen ", *_package_folders()))


@functools.cache
def _package_folders() -> tuple[str, ...]:
    # Imported here, because few programs ask.
    import importlib.util
    import site
    import sysconfig

    places = sysconfig.get_paths()
    found = [places[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    keras = importlib.util.find_spec("keras")
    if keras is not None and keras.origin is not None:
        found.append(os.path.dirname(os.path.dirname(keras.origin)))
    return tuple(folder.rstrip(os.sep) + os.sep for folder in found)
