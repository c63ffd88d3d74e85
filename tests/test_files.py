"""Files: written whole or not at all, and what they were stays, whatever a path leads to."""

import contextlib
import errno
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_lr import Constant, LRHistory, RangeTestResult, load, save
from keras_lr._files import atomic_write
from keras_lr._state import StateFile, save_arrays
from keras_lr.plotting import close

NOBODY = 65534

WRITERS = {
    "text": lambda path: write(path),
    "record": lambda path: record().to_csv(path),
    "range test": lambda path: range_test().to_csv(path),
    "state": lambda path: StateFile(path, "Owner", {}).save({1: {}}),
    "arrays": lambda path: save_arrays(path, {"a": np.ones(3)}),
}


def write(path, content="new"):
    with atomic_write(path, "wb" if isinstance(content, bytes) else "w") as file:
        file.write(content)


def record():
    history = LRHistory()
    steps = np.arange(3)
    history.load_state_dict(
        {"step": steps, "epoch": steps, "learning_rate": np.ones(3), "loss": np.ones(3)}
    )
    return history


def range_test():
    return RangeTestResult.from_curve(np.geomspace(1e-4, 1, 60), np.linspace(2, 1, 60))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.csv"


@pytest.fixture
def commons():
    """A folder that everybody may use, as a user who is not root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, -1)
        os.seteuid(NOBODY)
    yield folder
    if root:
        os.seteuid(0)
    for each in [folder, *folder.rglob("*")]:
        each.chmod(0o777)
    shutil.rmtree(folder)


@contextlib.contextmanager
def as_root():
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(NOBODY)


@contextlib.contextmanager
def full_disk(size):
    """Let no file grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def refused(path, *codes):
    """Expect an error of the operating system that names the path."""
    with pytest.raises(OSError, match=re.escape(f": {str(path)!r}")) as caught:
        yield
    assert caught.value.filename == str(path)
    assert caught.value.errno in codes


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# What is at a path stays what it is ---------------------------------------------------------------


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_stays_and_its_target_is_written(path, writer):
    target = path.parent / "target"
    target.write_text("old")
    target.chmod(0o600)
    inner = path.parent / "inner"
    inner.symlink_to("target")
    path.symlink_to(inner)
    WRITERS[writer](path)
    assert path.is_symlink()
    assert inner.is_symlink()
    assert target.read_bytes() != b"old"
    assert mode(target) == 0o600
    assert len(list(path.parent.iterdir())) == 3


def test_a_link_to_nothing_makes_its_target(path):
    (path.parent / "folder").mkdir()
    path.symlink_to("folder/target")
    write(path)
    assert path.is_symlink()
    assert (path.parent / "folder" / "target").read_text() == "new"


def test_a_folder_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link" / "file")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"


def test_a_folder_is_made_where_a_link_leads(tmp_path):
    (tmp_path / "link").symlink_to("real/folder")
    write(tmp_path / "link" / "file")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "folder" / "file").read_text() == "new"


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kept", [0o600, 0o640, 0o666, 0o755])
def test_the_mode_of_a_file_stays(path, writer, kept):
    path.touch()
    path.chmod(kept)
    WRITERS[writer](path)
    assert path.stat().st_size
    assert mode(path) == kept


@pytest.mark.parametrize("writer", WRITERS)
def test_a_new_file_has_the_mode_that_the_process_asks_for(path, writer, monkeypatch):
    old = os.umask(0o027)
    try:
        # Other threads would make files with whatever is set meanwhile.
        monkeypatch.setattr(os, "umask", None)
        WRITERS[writer](path)
    finally:
        monkeypatch.undo()
        os.umask(old)
    assert mode(path) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_owner_of_a_file_stays(path):
    path.touch()
    os.chown(path, 1234, 4321)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)
    assert path.read_text() == "new"


def test_the_owner_stays_also_where_the_file_cannot_be_given_away(commons):
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    path = commons / "file"
    with as_root():
        path.write_text("a longer text that was there")
        path.chmod(0o666)
    write(path)
    assert path.stat().st_uid == 0
    assert path.read_text() == "new"


@pytest.mark.parametrize("old", ["", "old", "longer than what is new"])
def test_every_name_of_a_file_has_the_new_content(path, old):
    path.write_text(old)
    other = path.parent / "other"
    other.hardlink_to(path)
    write(path)
    assert path.samefile(other)
    assert other.read_text() == "new"
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize("content", ["whole", b"whole"])
def test_a_pipe_gets_all_at_once(path, content):
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write(path, content)
    reader.join()
    assert read == [b"whole"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_stays_a_device():
    write(os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_what_is_printed_to_the_same_file_stays_in_it(path):
    """A file put in the place of standard output would take the output with it."""
    code = (
        "import sys; sys.argv[0] = 'keras-lr'\n"  # which imports no Keras until it needs it
        "from keras_lr._files import atomic_write\n"
        "with atomic_write('/dev/stdout') as file: file.write('new\\n')\n"
        "print('later')"
    )
    package = Path(__file__).parents[1]
    with open(path, "ab") as output:
        subprocess.run([sys.executable, "-c", code], stdout=output, check=True, cwd=package)
    assert path.read_text() == "new\nlater\n"


def test_a_file_that_is_mounted_by_itself_is_overwritten(path, monkeypatch):
    def busy(old, new):
        raise OSError(errno.EBUSY, "busy", old, None, new)

    path.write_text("a longer text that was there")
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "replace", busy)
    write(path)
    assert path.read_text() == "new"
    assert path.stat().st_ino == inode
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_name_may_be_as_long_as_names_can_be(tmp_path, writer):
    for name in ("n" * 255, "é" * 127):
        path = tmp_path / name
        WRITERS[writer](path)
        WRITERS[writer](path)
        assert path.stat().st_size


def test_a_config_is_written_like_every_file(tmp_path):
    target, link = tmp_path / "target.json", tmp_path / ("n" * 250 + ".json")
    target.touch(0o600)
    link.symlink_to(target)
    save(Constant(0.1), link)
    assert "Constant" in target.read_text()
    assert mode(target) == 0o600


# What cannot be written ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["w", "wb"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, kind):
    path.write_text("old")
    for again in (False, True):
        with pytest.raises(TypeError), atomic_write(path, kind) as file:
            file.writelines(["new", b"new"])
        with pytest.raises(KeyboardInterrupt), atomic_write(path, kind):
            raise KeyboardInterrupt
        assert path.read_text() == "old"
        if not again:
            assert list(path.parent.iterdir()) == [path]
            (path.parent / "other").hardlink_to(path)


@pytest.mark.parametrize("names", [1, 2])
@pytest.mark.parametrize("size", [50_001, 1_000_000])
def test_a_full_disk_leaves_the_old_file(path, names, size):
    path.write_text("old" * 10_000)
    for number in range(1, names):
        path.with_name(str(number)).hardlink_to(path)
    with refused(path, errno.EFBIG), full_disk(50_000):
        write(path, "n" * size)
    assert path.read_text() == "old" * 10_000
    assert len(list(path.parent.iterdir())) == names
    with full_disk(50_000):
        write(path, "n" * 50_000)
    assert path.read_text() == "n" * 50_000


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("writer", sorted({*WRITERS} - {"state", "arrays"}))
def test_the_error_of_a_full_device_names_it(writer):
    with refused("/dev/full", errno.ENOSPC):
        WRITERS[writer]("/dev/full")


def test_a_file_in_a_folder_that_admits_no_new_one_is_overwritten(commons):
    path = commons / "file"
    path.write_text("a longer text that was there")
    commons.chmod(0o555)
    write(path)
    assert path.read_text() == "new"
    with refused(commons / "new", errno.EACCES):
        write(commons / "new")
    with refused(commons / "folder" / "new", errno.EACCES):
        write(commons / "folder" / "new")


def test_a_file_that_may_only_be_read_stays(commons):
    path = commons / "file"
    path.write_text("old")
    path.chmod(0o444)
    with refused(path, errno.EACCES):
        write(path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("rights", [0o000, 0o600])
def test_a_folder_without_rights_is_an_error(commons, rights):
    folder = commons / "folder"
    folder.mkdir()
    (folder / "file").touch()
    folder.chmod(rights)
    for name in ("file", "new"):
        with refused(folder / name, errno.EACCES):
            write(folder / name)


def test_a_folder_is_no_file(tmp_path):
    for path in (str(tmp_path), f"{tmp_path}/"):
        with refused(path, errno.EISDIR):
            write(path)
    with refused("", errno.EISDIR):
        write("")


def test_a_file_is_no_folder(path):
    path.touch()
    with refused(path / "file", errno.EEXIST, errno.ENOTDIR):
        write(path / "file")


def test_a_link_to_itself_is_an_error(path):
    path.symlink_to(path)
    with refused(path, errno.ELOOP):
        write(path)


def test_an_error_about_another_file_names_that(path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        (path.parent / "other").read_text()
    assert caught.value.filename.endswith("other")
    assert not path.exists()


PATHS = WRITERS | {
    "config": lambda path: save(Constant(0.1), path),
    "picture": lambda path: close(plt.figure(), path),
}


@pytest.mark.parametrize("writer", sorted({*PATHS} - {"state", "arrays"}))
def test_a_path_may_be_bytes_and_holds_no_null(tmp_path, writer):
    path = tmp_path / "ü.json" if writer == "config" else tmp_path / "ü.svg"
    PATHS[writer](os.fsencode(path))
    assert path.stat().st_size
    with pytest.raises(ValueError, match=r"must not hold a null character. Received: 'a\\x00b"):
        PATHS[writer]("a\0b.json")


@pytest.mark.parametrize("writer", sorted({*PATHS} - {"state", "arrays"}))
def test_a_url_is_no_path(tmp_path, monkeypatch, writer):
    monkeypatch.chdir(tmp_path)
    for url in ("gs://bucket/x.json", Path("s3://bucket/x.json"), "file:///x.json"):
        with pytest.raises(ValueError, match="file of this machine, and not be a URL"):
            PATHS[writer](url)
    assert list(tmp_path.iterdir()) == []
    write("gs:x.json")
    assert (tmp_path / "gs:x.json").read_text() == "new"


def test_a_config_is_loaded_from_a_path_in_bytes(tmp_path):
    path = os.fsencode(tmp_path / "lr.json")
    save(Constant(0.1), path)
    assert load(path) == [Constant(0.1)]
    with pytest.raises(ValueError, match="must not hold a null character"):
        load("a\0b.json")


def test_a_picture_that_cannot_be_written_leaves_the_old_one(path):
    path = path.with_suffix(".svg")
    path.write_text("old")
    path.chmod(0o600)
    with refused(path, errno.EFBIG), full_disk(500):
        close(plt.figure(), path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    link = path.with_name("link.png")
    link.symlink_to(path)
    close(plt.figure(), link)
    assert link.is_symlink()
    assert path.read_bytes().startswith(b"\x89PNG")
    assert mode(path) == 0o600
    assert not plt.get_fignums()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_picture_on_a_full_device_names_it():
    with refused("/dev/full", errno.ENOSPC):
        close(plt.figure(), "/dev/full")


# What is read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"caf\xe9,1\n", "step".encode("utf-16"), b"[" * 200_000, b'{"a":' * 200_000, bytes(1000)],
)
@pytest.mark.parametrize(
    ("ending", "read"),
    [
        *((ending, load) for ending in ("json", "yaml", "toml")),
        ("csv", LRHistory.from_csv),
        ("csv", RangeTestResult.from_csv),
    ],
)
def test_what_is_no_text_or_nested_without_end_is_an_error_that_names_the_file(
    tmp_path, content, ending, read
):
    path = tmp_path / f"file.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read(path)
