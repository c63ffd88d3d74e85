"""The record of a population: a run that was killed ends as it would have."""

import dataclasses
import json
import os

import keras
import numpy as np
import pytest
from problems import classifier, digits, line, line_data, unbuilt
from processes import run_program
from selection import mostly_full

from keras_lr import LRSweep, PopulationBasedTraining, StateError, SweepResult
from keras_lr.search.population.record import PopulationRecord
from keras_lr.search.population.results.result import PopulationResult

X, Y = line_data()


class Counts(keras.callbacks.Callback):
    """Counts training runs, those of its copies too, and ends the program after the last."""

    last = None

    @classmethod
    def stop_after(cls, last):
        cls.last = last

    def __init__(self, trainings):
        super().__init__()
        self.trainings = trainings

    def __deepcopy__(self, memo):
        return Counts(self.trainings)

    def on_train_begin(self, logs=None):
        if len(self.trainings) == Counts.last:
            raise KeyboardInterrupt
        self.trainings.append(self.model)


def run(folder, build=line, x=X, y=Y, last=None, epochs=3, fit=None, **more):
    """Train a population; return its result and how many training runs it took."""
    options = {"parameters": {"learning_rate": (1e-3, 1e-1)}, "optimizer": "sgd", "verbose": 0}
    training = PopulationBasedTraining(**options | {"population": 4, "directory": folder} | more)
    trainings = []
    Counts.stop_after(last)
    fit = {"batch_size": 8} | (fit or {})
    return training.run(build, x, y, epochs=epochs, callbacks=[Counts(trainings)], **fit), len(
        trainings
    )


def plain(result):
    rows = [dataclasses.replace(row, seconds=0.0) for row in result.rows]
    return [repr(row) for row in rows], [w.tolist() for w in result.model.get_weights()]


@pytest.mark.core
def test_what_is_recorded_is_not_trained_again(tmp_path):
    result, count = run(tmp_path)
    assert count == 4 * 3
    again, count = run(tmp_path)
    assert count == 0
    assert plain(again) == plain(result)


@pytest.mark.full
@pytest.mark.core
def test_an_interrupted_population_goes_on_as_it_would_have(tmp_path):
    (x, y), validation = digits(200)
    problem = {"build": classifier, "x": x, "y": y, "optimizer": "adam"}
    problem |= {"fit": {"validation_data": validation, "batch_size": 64}}
    whole, count = run(tmp_path / "whole", **problem)
    assert count == 12
    folder = tmp_path / "interrupted"
    for last in (3, 4):
        assert run(folder, last=last, **problem)[0].interrupted
    found, count = run(folder, **problem)
    assert count == 12 - 7
    assert plain(found) == plain(whole)
    for one, other in zip(
        found.model.optimizer.variables, whole.model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))


@pytest.mark.full
@pytest.mark.core
@pytest.mark.parametrize("damage", mostly_full(["missing", "cut", "changed"], ["cut"]))
def test_a_state_that_is_gone_is_trained_again(tmp_path, damage):
    whole, _ = run(None)
    run(tmp_path, last=9)
    for path in (tmp_path / "states").iterdir():
        content = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            cut = content[:-9]
            path.write_bytes(cut if damage == "cut" else cut + bytes(9))
    found, count = run(tmp_path)
    assert plain(found) == plain(whole)
    assert count > 12 - 9


@pytest.mark.full
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_state_that_is_no_file_is_refused_and_stays(tmp_path, make):
    run(tmp_path, last=9)
    path = max((tmp_path / "states").iterdir())
    path.unlink()
    make(path)
    with pytest.raises(StateError, match=rf"{path.name} cannot be used: .*Delete it"):
        run(tmp_path)
    assert not path.is_file()


def test_a_folder_of_states_that_cannot_be_is_an_error_before_anything_is_built(tmp_path):
    (tmp_path / "states").touch()
    with pytest.raises(NotADirectoryError, match="states"):
        run(tmp_path, build=unbuilt)


@pytest.mark.full
def test_the_record_of_a_sweep_is_none_of_a_population(tmp_path):
    run(tmp_path)
    sweep = LRSweep(0.01, 0.1, optimizers=["sgd"], directory=tmp_path, verbose=0)
    sweep.run(line, X, Y, epochs=2)
    trials, members = tmp_path / "trials.jsonl", tmp_path / "members.jsonl"
    contents = trials.read_bytes(), members.read_bytes()
    for lines in (1, None):  # the first alone, and all
        for path, other in zip((members, trials), contents, strict=True):
            path.write_bytes(b"".join(other.splitlines(keepends=True)[:lines]))
        with pytest.raises(StateError, match="not the record of a population"):
            PopulationResult.load(tmp_path)
        with pytest.raises(StateError, match="not the record of a sweep"):
            SweepResult.load(tmp_path)


@pytest.mark.full
def test_states_of_earlier_rounds_are_deleted(tmp_path):
    run(tmp_path, last=6)
    names = [path.name for path in (tmp_path / "states").iterdir()]
    assert sorted(name[0] for name in names) == ["1"] * 4 + ["2"] * 2
    run(tmp_path)
    names = [path.name for path in (tmp_path / "states").iterdir()]
    assert [name[0] for name in names] == ["3"] * 4


@pytest.mark.slow
def test_a_killed_population_ends_as_it_would_have(tmp_path):
    whole, found, moments = run_program("killed_population.py", tmp_path, 3)
    assert found == whole
    assert len(whole[0]) == 4 * 5
    assert 3 <= moments[0] < moments[-1]
    assert moments == sorted(moments)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"population": 5}, "population"),
        pytest.param({"every": 2}, "every", marks=pytest.mark.full),
        pytest.param({"quantile": 0.5}, "quantile", marks=pytest.mark.full),
        pytest.param({"perturb": (0.5, 2.0)}, "perturb", marks=pytest.mark.full),
        pytest.param({"resample": 0.5}, "resample", marks=pytest.mark.full),
        pytest.param({"seed": 1}, "seed", marks=pytest.mark.full),
        ({"parameters": {"learning_rate": (1e-3, 1.0)}}, "parameters"),
        pytest.param({"epochs": 4}, "epochs", marks=pytest.mark.full),
        ({"x": X + 1}, "x"),
        pytest.param({"fit": {"batch_size": 4}}, "arguments of fit", marks=pytest.mark.full),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_decides_the_numbers_may_not_change(tmp_path, arguments, names):
    run(tmp_path)
    before = (tmp_path / "members.jsonl").read_bytes()
    with pytest.raises(StateError, match=rf"of another population. Changed: {names}\."):
        run(tmp_path, **arguments)
    assert (tmp_path / "members.jsonl").read_bytes() == before


@pytest.mark.full
def test_a_record_is_read_without_training(tmp_path):
    result, _ = run(tmp_path)
    loaded = PopulationResult.load(tmp_path)
    assert loaded.rows == result.rows
    assert loaded.schedule == result.schedule
    assert loaded.report() == result.report()
    with pytest.raises(ValueError, match="loaded from a folder"):
        loaded.model  # noqa: B018
    path = tmp_path / "members.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:8]))
    part = PopulationResult.load(tmp_path)
    assert part.rows == tuple(row for row in result.rows[:7])
    assert {row.round for row in part.last_round} == {1}


class Fails(keras.callbacks.Callback):
    broken = True

    @classmethod
    def set_broken(cls, broken):
        cls.broken = broken

    def on_train_begin(self, logs=None):
        raise OSError("no space")


@pytest.mark.full
def test_a_failure_is_tried_again_unless_others_rest_on_it(tmp_path):
    def callbacks_in(number):
        def callbacks(line):
            is_it = line.seed == 1 and len(line.values) == number and Fails.broken
            return [Fails()] if is_it else []

        return callbacks

    def train(folder, number):
        training = PopulationBasedTraining(
            {"learning_rate": (1e-3, 1e-1)}, 3, optimizer="sgd", directory=folder, verbose=0
        )
        found = training.run(line, X, Y, epochs=2, batch_size=8, callbacks=callbacks_in(number))
        return [row.status for row in found.rows]

    for number, after in ((1, ["trained", "failed", "trained"]), (2, ["trained"] * 3)):
        folder = tmp_path / str(number)
        Fails.set_broken(True)
        first = train(folder, number)
        Fails.set_broken(False)
        assert train(folder, number)[:3] == after
        assert "failed" in first or number == 2
    known = PopulationRecord(tmp_path / "1").outcomes.values()
    assert [outcome.status for outcome in known].count("failed") == 1


@pytest.mark.full
def test_lines_are_plain_json(tmp_path):
    run(tmp_path)
    first, *rest = map(json.loads, (tmp_path / "members.jsonl").read_text().splitlines())
    assert first["fingerprint"]["perturb"] == [0.8, 1.2]
    assert len(rest) == 12
    assert [one["outcome"]["trial"]["seed"] for one in rest[:4]] == [0, 1, 2, 3]
