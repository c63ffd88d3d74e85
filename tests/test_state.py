"""State files: whole or not at all, and never taken for something that they are not."""

import copy
import json
import os
import pathlib
import re
import stat
import zipfile

import keras
import numpy as np
import pytest
from models import fit, meter

from keras_lr import (
    DistanceOverGradients,
    LRHistory,
    LRRangeTest,
    ReduceLROnPlateau,
    StateError,
    from_config,
)
from keras_lr._state import CHECKSUM, StateFile, load_arrays, save_arrays

STATES = {1: {"best": 0.5, "wait": 1}, 2: {"best": 0.25, "wait": 0}}
ARRAYS = {"step": np.arange(5), "loss": np.linspace(0, 1, 5, dtype=np.float32)}
RECORD = ARRAYS | {"epoch": np.zeros(5), "learning_rate": np.ones(5)}


def state_file(path, owner="Owner", **config):
    return StateFile(path, owner, config)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.json"


def refused(path):
    """Expect an error that names the file and says what to do."""
    return pytest.raises(StateError, match=rf"(?s){path.name}.*(Restore it from a copy)")


def test_what_is_saved_is_loaded(path):
    state_file(path, patience=3).save(STATES)
    assert state_file(path, patience=3).load() == STATES


def test_a_file_that_is_not_there_holds_no_states(path):
    assert state_file(path).load() == {}


def test_every_truncation_is_refused(path):
    state_file(path).save(STATES)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with refused(path):
            state_file(path).load()


@pytest.mark.parametrize("mask", [0x01, 0x04, 0x20, 0x80])
def test_every_flipped_bit_is_refused(path, mask):
    state_file(path, patience=3).save(STATES)
    content = bytearray(path.read_bytes())
    for place in range(len(content)):
        content[place] ^= mask
        path.write_bytes(content)
        with refused(path):
            state_file(path, patience=3).load()
        content[place] ^= mask


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated or damaged"),
        (b"\x89HDF\r\n", "truncated or damaged"),
        (b"[1, 2]", "not a state file of keras_lr"),
        (b'{"epoch": 3, "batch": 0}', "not a state file of keras_lr"),
        (b'{"keras_lr_state": 99}', "format 99"),
        (b'{"keras_lr_state": 1}', "damaged"),
    ],
)
def test_a_foreign_file_is_refused(path, content, reason):
    path.write_bytes(content)
    with pytest.raises(StateError, match=rf"{path.name} cannot be used: .*{reason}.*delete it"):
        state_file(path).load()


@pytest.mark.parametrize("other", [("Another", {"patience": 3}), ("Owner", {"patience": 4})])
def test_the_file_of_another_callback_is_refused(path, other):
    owner, config = other
    state_file(path, owner, **config).save(STATES)
    with pytest.raises(StateError, match=rf"belongs to {owner}\(patience=.*not to Owner\(patience"):
        state_file(path, patience=3).load()


@pytest.mark.full
def test_arrays_come_back_and_damage_never_passes(tmp_path):
    path = tmp_path / "arrays.npz"
    save_arrays(path, ARRAYS)
    content = bytearray(path.read_bytes())

    def same(found):
        return found.keys() == ARRAYS.keys() and all(
            np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS
        )

    assert same(load_arrays(path))
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with refused(path):
            load_arrays(path)
    refusals = 0
    for mask in (0x01, 0x08, 0x80):
        for place in range(len(content)):
            content[place] ^= mask
            path.write_bytes(content)
            content[place] ^= mask
            try:
                found = load_arrays(path)
            except StateError:
                refusals += 1
            else:  # a date in the archive may change; an array may not
                assert same(found)
    assert refusals > len(content)


def test_arrays_that_are_not_there(tmp_path):
    with pytest.raises(StateError, match=r"gone\.npz does not exist"):
        load_arrays(tmp_path / "gone.npz")


def test_a_folder_is_made(tmp_path):
    state_file(tmp_path / "a" / "b" / "state.json").save(STATES)
    assert state_file(tmp_path / "a" / "b" / "state.json").load() == STATES


def test_a_file_that_is_no_text_or_nested_without_end_is_refused(path):
    for content in (b"\xff\xfe{}", b"[" * 200_000, b'{"a":' * 200_000, b"\0" * 100):
        path.write_bytes(content)
        with refused(path):
            state_file(path).load()
        with refused(path):
            load_arrays(path)


def test_what_is_not_a_file_is_refused_and_stays(path):
    os.mkfifo(path)
    (path.parent / "folder").mkdir()
    for each in (path, path.parent / "folder", pathlib.Path(os.devnull)):
        for use in (
            lambda each=each: state_file(each).load(),
            lambda each=each: state_file(each).save(STATES),
            lambda each=each: load_arrays(each),
            lambda each=each: save_arrays(each, ARRAYS),
        ):
            with pytest.raises(StateError, match=rf"{each} cannot be used.*Give `state_path`"):
                use()
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize(
    "name", ["file", "allow_pickle", "args", "a/b", "épreuve", "x.npy", CHECKSUM]
)
def test_arrays_may_have_any_name(path, name):
    save_arrays(path, {name: np.arange(3)})
    assert load_arrays(path)[name].tolist() == [0, 1, 2]


def test_weights_are_stored_beside_a_file_whose_name_is_as_long_as_names_can_be(tmp_path):
    for path in (tmp_path / ("n" * 245 + ".json"), tmp_path / ("é" * 122 + ".json")):
        options = {"patience": 1, "restore_best_weights": True, "state_path": path}
        fit(meter(), ReduceLROnPlateau("loss", **options), epochs=2)
        assert len(list(tmp_path.glob("*.npz"))) == 1
        again = ReduceLROnPlateau("loss", **options)
        fit(meter(), again, initial_epoch=2, epochs=3)
        for each in (path, *tmp_path.glob("*.npz")):
            each.unlink()


# What the callbacks make of it.


@pytest.mark.core
@pytest.mark.parametrize(
    "make",
    [
        LRHistory,
        lambda path: ReduceLROnPlateau("loss", state_path=path),
        lambda path: LRRangeTest(state_path=path, verbose=0),
    ],
)
def test_a_path_that_holds_no_state_is_refused_before_the_first_update(path, make):
    (path.parent / "file").touch()
    os.mkfifo(path)
    for bad, kind in (
        (path, StateError),
        (path.parent, StateError),
        (path.parent / "file" / "x", OSError),
    ):
        model = meter()
        with pytest.raises(kind, match=re.escape(str(bad))):
            fit(model, make(str(bad)))
        assert not model.get_weights()[0].any()
    assert stat.S_ISFIFO(path.stat().st_mode)


STATEFUL = {
    "record": LRHistory,
    "plateau": lambda path: ReduceLROnPlateau("loss", state_path=path, restore_best_weights=True),
    "range test": lambda path: LRRangeTest(state_path=path, verbose=0),
    "rule": lambda path: DistanceOverGradients(state_path=path),
}


@pytest.mark.parametrize("kind", STATEFUL)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("", ValueError),
        ("a\0b", ValueError),
        ("gs://bucket/x", ValueError),
        (pathlib.Path("s3://bucket/x"), ValueError),
        (3, TypeError),
    ],
)
def test_what_is_no_path_on_this_machine_is_refused(kind, wrong, error):
    with pytest.raises(error, match="argument `state_path` must be the path of a file"):
        STATEFUL[kind](wrong)
    if isinstance(wrong, str | int):
        with pytest.raises(ValueError, match="the path of a file"):
            from_config({"LRHistory": {"state_path": wrong}})


@pytest.mark.full
@pytest.mark.core
@pytest.mark.parametrize("kind", STATEFUL)
def test_any_name_will_do(tmp_path, kind):
    """Bytes, a name that is no UTF-8, spaces, a new line, and what `glob` reads as a pattern."""
    path = os.fsencode(tmp_path) + b"/caf\xe9 [a]*\nb"
    fit(meter(), STATEFUL[kind](path), epochs=2)
    again = STATEFUL[kind](os.fsdecode(path))
    assert again.state_path == os.fsdecode(path)
    fit(meter(), again, initial_epoch=2, epochs=3)
    assert os.path.isfile(path)


@pytest.mark.core
@pytest.mark.parametrize("kind", STATEFUL)
@pytest.mark.parametrize("content", ["text", "arrays", "deep", "record", "plateau"])
def test_a_file_of_something_else_is_refused_before_the_first_update_and_stays(path, kind, content):
    if content == kind:
        return
    if content == "arrays":
        save_arrays(path, {"weights": np.ones(3)})
    elif content in STATEFUL:
        fit(meter(), STATEFUL[content](path))
    else:
        path.write_text({"text": "lines that somebody wrote", "deep": "[" * 200_000}[content])
    before, model = path.read_bytes(), meter()
    with refused(path):
        fit(model, STATEFUL[kind](path))
    assert path.read_bytes() == before
    assert not model.get_weights()[0].any()


@pytest.mark.core
@pytest.mark.parametrize("kind", sorted({*STATEFUL} - {"record"}))
def test_two_callbacks_of_a_fit_may_not_write_one_file(tmp_path, kind):
    path, link, model = tmp_path / "state", tmp_path / "link", meter()
    link.symlink_to(path)
    for callbacks in (
        [STATEFUL[kind](path), LRHistory(link)],
        [LRHistory(path), STATEFUL[kind](link)],
    ):
        with pytest.raises(ValueError, match=r"overwrite each other's state\. Give each its own"):
            fit(model, callbacks)
    assert not model.get_weights()[0].any()
    assert not path.exists()


@pytest.mark.core
@pytest.mark.parametrize(("kind", "word"), [("plateau", "best"), ("rule", "epoch")])
def test_of_the_files_beside_a_state_only_its_own_are_deleted(path, kind, word):
    def beside(name):
        return path.with_name(f"{path.name}.{word}-{name}.npz")

    for name in ("model", "7x", "7"):
        beside(name).write_text("of somebody")
    fit(meter(), STATEFUL[kind](path), epochs=2)
    assert [beside(name).exists() for name in ("model", "7x", "7")] == [True, True, False]


@pytest.mark.core
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize(("kind", "name"), [("plateau", "best-0"), ("rule", "epoch-1")])
def test_arrays_that_cannot_be_written_are_known_before_the_first_update(path, make, kind, name):
    beside = path.with_name(f"{path.name}.{name}.npz")
    make(beside)
    model = meter()
    with pytest.raises(StateError, match=re.escape(f"{beside} cannot be used")):
        fit(model, STATEFUL[kind](path))
    assert not model.get_weights()[0].any()
    assert stat.S_IFMT(beside.stat().st_mode) in (stat.S_IFIFO, stat.S_IFDIR)


@pytest.mark.core
@pytest.mark.parametrize(("kind", "name"), [("plateau", "best-0"), ("rule", "epoch-1")])
@pytest.mark.parametrize("wrong", [{}, RECORD, "longer"])
def test_arrays_of_another_model_are_refused_before_the_first_update(path, kind, name, wrong):
    fit(meter(), STATEFUL[kind](path))
    beside = path.with_name(f"{path.name}.{name}.npz")
    if wrong == "longer":
        wrong = {name: np.repeat(one, 2) for name, one in load_arrays(beside).items()}
    save_arrays(beside, wrong)
    model = meter()
    with refused(beside):
        fit(model, STATEFUL[kind](path), initial_epoch=1, epochs=2)
    assert not model.get_weights()[0].any()


def test_state_dict_is_plain_data_and_comes_back():
    callback = ReduceLROnPlateau()
    callback.best, callback.wait, callback.cooldown_counter = 0.5, 3, 1
    state = json.loads(json.dumps(callback.state_dict()))
    assert (state["best"], state["wait"], state["cooldown_counter"]) == (0.5, 3, 1)
    another = ReduceLROnPlateau()
    another.load_state_dict(state, epoch=4)
    with pytest.raises(ValueError, match="`state` must be what state_dict"):
        another.load_state_dict({"best": 0.5}, epoch=4)


def test_the_state_of_a_record_comes_back():
    history = LRHistory()
    history.load_state_dict(RECORD)
    another = LRHistory()
    another.load_state_dict(history.state_dict())
    assert another == history
    assert another.step.tolist() == [0, 1, 2, 3, 4]


def test_the_state_of_a_record_replaces_another_record(tmp_path):
    history, expected = LRHistory(), LRHistory()
    history.load_state_dict(
        {name: values[:3] for name, values in RECORD.items()} | {"mae": [1] * 3}
    )
    history.load_state_dict(RECORD)
    expected.load_state_dict(RECORD)
    assert history == expected
    history.to_csv(tmp_path / "history.csv")
    assert LRHistory.from_csv(tmp_path / "history.csv") == expected


def test_the_state_of_a_record_replaces_what_an_interrupted_fit_recorded():
    def interrupt(batch, logs):
        if batch == 3:
            raise KeyboardInterrupt

    history, expected = LRHistory(), LRHistory()
    expected.load_state_dict(RECORD)
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(meter(), [history, stop])
    history.load_state_dict(RECORD)
    assert history == expected


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "it lacks step, epoch, learning_rate, loss"),
        (ARRAYS, "it lacks epoch, learning_rate. Received: .*'step': 5"),
        (RECORD | {"mae": np.ones(4)}, "its arrays differ in length. Received: .*'mae': 4"),
    ],
)
def test_what_is_no_state_of_a_record(state, words):
    history = LRHistory()
    history.load_state_dict(RECORD)
    before = copy.deepcopy(history)
    with pytest.raises(ValueError, match=rf"LRHistory: argument `state` must be .*: {words}"):
        history.load_state_dict(state)
    assert history == before


def test_an_archive_of_something_else_is_no_record(tmp_path):
    path = tmp_path / "history.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with refused(path):
        history_from(path)
    save_arrays(path, {"weights": np.ones(3)})
    with pytest.raises(StateError, match="it is not a history: it lacks step"):
        history_from(path)


def history_from(path):
    """Begin epoch 1 with a record that was made elsewhere."""
    LRHistory(state_path=path).start_epoch(1, 3)
