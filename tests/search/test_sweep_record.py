"""The record of a sweep: nothing is lost, and nothing is taken for what it is not."""

import json
import os
import resource

import keras
import pytest
from models import COMPILE
from problems import line, line_data, unbuilt
from processes import run_program

from keras_lr import StateError, SweepResult
from keras_lr.search import LRSweep
from keras_lr.search.record import SweepRecord

X, Y = line_data()


def sweep(folder, **more):
    options = {"per_decade": 1, "seeds": 1, "optimizers": ["sgd"], "verbose": 0}
    return LRSweep(**{"min_lr": 0.01, "max_lr": 0.1, "directory": folder} | options | more)


class Counts(keras.callbacks.Callback):
    """Counts training runs, those of its copies too."""

    def __init__(self, trainings):
        super().__init__()
        self.trainings = trainings

    def __deepcopy__(self, memo):
        return Counts(self.trainings)

    def on_train_begin(self, logs=None):
        self.trainings.append(self.model)


def run(swept, build=line, x=X, y=Y, epochs=2, **fit):
    """Run a sweep; return its rows and how many training runs it took."""
    trainings = []
    fit = {"batch_size": 8, "callbacks": [Counts(trainings)]} | fit
    result = swept.run(build, x, y, epochs=epochs, **fit)
    return [(row.trial, row.status, row.logs) for row in result.rows], len(trainings)


def test_what_is_recorded_is_not_trained_again(tmp_path):
    rows, count = run(sweep(tmp_path, seeds=2))
    assert count == 4
    assert run(sweep(tmp_path, seeds=2)) == (rows, 0)


@pytest.mark.full
def test_a_wider_sweep_trains_what_is_new(tmp_path):
    narrow, _ = run(sweep(tmp_path))
    wide, count = run(sweep(tmp_path, max_lr=1.0, optimizers=["sgd", "adam"], seeds=2))
    assert count == 3 * 2 * 2 - 2
    assert [row for row in wide if row in narrow] == narrow
    sizes = {"": line, "large": line}
    assert run(sweep(tmp_path), build=sizes)[1] == 2


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_two_processes_lose_nothing(tmp_path):
    whole, killed, moments, both = run_program("killed_sweep.py", tmp_path, 3)
    assert killed == whole
    assert both == [whole, whole]
    assert len(whole) == 5 * 2
    assert moments == sorted(moments)
    assert 3 <= moments[0] < moments[-1]
    for folder in ("killed", "together"):
        lines = (tmp_path / folder / "trials.jsonl").read_text().splitlines()
        outcomes = [json.loads(line) for line in lines]
        assert sum("sweep" in one for one in outcomes) == {"killed": 4, "together": 2}[folder]
        known = SweepRecord(tmp_path / folder).outcomes
        assert {trial.learning_rate for trial, _ in known} == {row[0] for row in whole}


def other_model(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **COMPILE)
    return model


WIDTHS = {"": 1}


def of_width(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(WIDTHS[""])])
    model.compile(optimizer, "mse", **COMPILE)
    return model


@pytest.mark.parametrize(
    ("sweep_arguments", "arguments", "names"),
    [
        ({}, {"build": other_model}, "build, model of SGD"),
        ({}, {"x": X + 1}, "x"),
        pytest.param(
            {}, {"validation_data": (X, Y)}, "monitor, validation_data", marks=pytest.mark.full
        ),
        pytest.param({}, {"batch_size": 4}, "arguments of fit", marks=pytest.mark.full),
        pytest.param({}, {"epochs": 3}, "epochs", marks=pytest.mark.full),
        pytest.param({"halving": 0.5}, {}, "halving", marks=pytest.mark.full),
        pytest.param({"subset": 0.5}, {}, "subset, x, y", marks=pytest.mark.full),
        pytest.param({"until": "loss < 1"}, {}, "until", marks=pytest.mark.full),
        pytest.param(
            {"schedule": lambda lr: keras.callbacks.Callback()},
            {},
            "schedule",
            marks=pytest.mark.full,
        ),
        ({"optimizers": {"SGD": keras.optimizers.SGD(momentum=0.9)}}, {}, "SGD"),
    ],
)
def test_what_decides_the_numbers_may_not_change(tmp_path, sweep_arguments, arguments, names):
    run(sweep(tmp_path))
    before = (tmp_path / "trials.jsonl").read_bytes()
    with pytest.raises(StateError, match=rf"of another sweep. Changed: {names}\."):
        run(sweep(tmp_path, **sweep_arguments), **arguments)
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def test_a_value_that_build_takes_from_around_it_may_not_change(tmp_path, monkeypatch):
    run(sweep(tmp_path), build=of_width)
    monkeypatch.setitem(WIDTHS, "", 2)
    with pytest.raises(StateError, match="Changed: build, model of SGD"):
        run(sweep(tmp_path), build=of_width)


def test_a_line_that_a_kill_has_cut_off_is_trained_again(tmp_path):
    rows, _ = run(sweep(tmp_path))
    path = tmp_path / "trials.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert run(sweep(tmp_path)) == (rows, 1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 4  # two sweeps and two outcomes


def test_a_damaged_line_is_named(tmp_path):
    run(sweep(tmp_path))
    path = tmp_path / "trials.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-5], lines[2]]) + "\n")
    with pytest.raises(StateError, match=r"Line 2 of .*trials.jsonl is damaged"):
        run(sweep(tmp_path))


@pytest.mark.parametrize(
    ("damage", "line", "words"),
    [
        (
            lambda lines: [lines[0], lines[1].replace(b'"loss": [', b'"loss": [9'), lines[2]],
            2,
            "does not match",
        ),
        (
            lambda lines: [lines[0], lines[1].replace(b'"trained"', b'"diverged"')],
            2,
            "does not match",
        ),
        (lambda lines: [lines[0].replace(b'"epochs": 2', b'"epochs": 3')], 1, "does not match"),
        (lambda lines: lines[1:], 1, "no line before it says what sweep it is of"),
        (lambda lines: [b"[" * 200_000 + b"\n"], 1, "recursion"),
        (lambda lines: [lines[0], b'{"a":' * 200_000 + b"\n"], 2, "recursion"),
        (lambda lines: [b"[]\n"], 1, "attribute"),
    ],
    ids=["loss", "status", "fingerprint", "head", "deep", "deep-mapping", "list"],
)
def test_a_line_that_was_altered_is_named(tmp_path, damage, line, words):
    run(sweep(tmp_path))
    path = tmp_path / "trials.jsonl"
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    for read in (SweepResult.load, lambda folder: run(sweep(folder))):
        with pytest.raises(
            StateError, match=rf"Line {line} of .*trials.jsonl is damaged: .*{words}"
        ):
            read(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/full", path)])
def test_a_record_that_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "trials.jsonl")
    for read in (SweepResult.load, lambda folder: run(sweep(folder))):
        with pytest.raises(StateError, match="it is a folder, a pipe or a device"):
            read(tmp_path)


@pytest.mark.parametrize(
    "content", [b"lines that somebody wrote", b"[" * 200_000, b"\x89PNG", b'{"keras_lr_state": 1']
)
def test_a_file_of_something_else_stays(tmp_path, content):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(content)
    for read in (SweepResult.load, lambda folder: run(sweep(folder), build=unbuilt)):
        with pytest.raises(StateError, match=r"trials\.jsonl cannot be used: it is not the record"):
            read(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.full
@pytest.mark.parametrize("content", [b"", b'{"swe', b'{"sweep": 1, "fingerprint": {"ba', bytes(9)])
def test_a_first_line_that_a_kill_has_cut_off_is_written_again(tmp_path, content):
    (tmp_path / "trials.jsonl").write_bytes(content)
    rows, count = run(sweep(tmp_path))
    assert count == 2
    assert run(sweep(tmp_path)) == (rows, 0)


@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 10)])
def test_a_record_that_is_cut_while_the_sweep_runs_is_an_error(tmp_path, damage):
    path = tmp_path / "trials.jsonl"

    class Damages(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            if self.model.optimizer.learning_rate > 0.05:
                damage(path)

    with pytest.raises(StateError, match=r"trials\.jsonl was cut or replaced while it was in use"):
        run(sweep(tmp_path), callbacks=[Damages()])
    assert not path.stat().st_size or path.read_bytes().startswith(b'{"sweep": ')


def test_a_folder_that_cannot_be_is_an_error_before_anything_is_built(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder", "/dev/null"):
        with pytest.raises(NotADirectoryError) as caught:
            run(sweep(folder), build=unbuilt)
        assert caught.value.filename == os.path.join(folder, "trials.jsonl")
    for wrong in ("a\0b", "s3://bucket/sweep"):
        with pytest.raises(ValueError, match="`directory` must be the path of a folder"):
            sweep(wrong)


def test_a_folder_may_have_any_name_and_what_is_in_it_stays_what_it_is(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9 [a]\nb"
    (tmp_path / "link").symlink_to(folder)
    rows, _ = run(sweep(tmp_path / "link"))
    assert run(sweep(folder)) == (rows, 0)
    target, (record,) = tmp_path / "target", os.scandir(folder)
    os.replace(record.path, target)
    target.chmod(0o600)
    os.symlink(os.fsencode(target), record.path)
    assert run(sweep(folder, max_lr=1.0))[1] == 1
    assert len(SweepResult.load(folder).rows) == 3
    assert os.path.islink(record.path)
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.full
def test_a_full_disk_leaves_whole_lines(tmp_path):
    run(sweep(tmp_path))
    path = tmp_path / "trials.jsonl"
    before = path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, old[1]))
    try:
        with pytest.raises(OSError, match=r"too large: '.*trials\.jsonl'"):
            run(sweep(tmp_path, max_lr=1.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().endswith(b"\n")
    assert run(sweep(tmp_path, max_lr=1.0))[1] == 1


@pytest.mark.full
def test_a_failure_is_tried_again(tmp_path):
    class Fails(keras.callbacks.Callback):
        broken = True

        @classmethod
        def set_broken(cls, broken):
            cls.broken = broken

        def on_train_begin(self, logs=None):
            if Fails.broken:
                raise OSError("no space")

    statuses = []
    for broken in (True, False, True):
        Fails.set_broken(broken)
        rows = run(sweep(tmp_path), callbacks=[Fails()])[0]
        statuses.append([status for _, status, _ in rows])
    assert statuses == [["failed"] * 2, ["trained"] * 2, ["trained"] * 2]


@pytest.mark.full
def test_numbers_that_are_not_finite_come_back(tmp_path):
    rows, _ = run(sweep(tmp_path), validation_data=(X, Y * float("inf")))
    assert rows[0][2]["val_loss"] == [float("inf")] * 2
    again, count = run(sweep(tmp_path), validation_data=(X, Y * float("inf")))
    assert count == 0
    assert repr(again) == repr(rows)
    text = (tmp_path / "trials.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
