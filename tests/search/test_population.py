"""Population based training as it is used: what it finds, and what it says."""

import dataclasses
import itertools
import random

import keras
import numpy as np
import pytest
from problems import classifier, digits, line, line_data, traced_line

from keras_lr import ParamScheduler, PopulationBasedTraining
from keras_lr.range_test import NoSuggestion
from keras_lr.search.engines.local import LocalEngine

pytestmark = pytest.mark.core


def population(rates=(0.001, 0.1), size=4, **more):
    options = {"optimizer": "sgd", "verbose": 0, "parameters": {"learning_rate": rates}}
    return PopulationBasedTraining(**{"population": size} | options | more)


def run_line(training, epochs=4, **fit):
    x, y = line_data()
    return training.run(line, x, y, **{"epochs": epochs, "batch_size": 8} | fit)


def by_place(result):
    return {(row.round, row.member): row for row in result.rows}


def plain(result):
    """Return all of a result that does not depend on the clock."""
    rows = [dataclasses.replace(row, seconds=0.0) for row in result.rows]
    return [repr(row) for row in rows], [w.tolist() for w in result.model.get_weights()]


def test_the_winner_is_what_a_fit_with_its_schedule_gives():
    (x, y), validation = digits()
    fit = {"validation_data": validation, "epochs": 4, "batch_size": 64}
    training = population((1e-4, 3e-4), optimizer="adam", perturb=(2.0, 3.0), resample=0.0)
    result = training.run(classifier, x, y, **fit)
    lineage = result.lineage
    assert [row.round for row in lineage] == [1, 2, 3, 4]
    assert len({row.member for row in lineage}) > 1, "the winner is a copy"
    keras.utils.set_random_seed(result.best.seed)
    model = classifier(keras.optimizers.Adam())
    schedule = result.schedule
    history = model.fit(x, y, verbose=0, callbacks=[schedule], **fit)
    rates = [row.values["learning_rate"] for row in lineage]
    np.testing.assert_array_equal(
        schedule.history.learning_rate, np.repeat(np.float32(rates), -(-len(x) // 64))
    )
    for name in ("loss", "val_loss", "accuracy"):
        assert [row.logs[name] for row in lineage] == [[value] for value in history.history[name]]
    for one, other in zip(model.variables, result.model.variables, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
    for one, other in zip(model.optimizer.variables, result.model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
    evaluated = result.model.evaluate(*validation, verbose=0, batch_size=64)[0]
    assert evaluated == pytest.approx(result.best.score, rel=1e-5)


def test_every_copy_begins_where_the_best_have_ended():
    result = run_line(population(size=6, quantile=1 / 3), epochs=5)
    rows = by_place(result)
    assert list(rows) == [*itertools.product(range(1, 6), range(6))]
    copies = [row for row in result.rows if row.copied_from is not None]
    assert len(copies) == 4 * 2
    for number in range(1, 5):
        ranked = sorted(range(6), key=lambda member: rows[number, member].score)
        copied = {member for member in range(6) if rows[number + 1, member].copied_from is not None}
        assert copied == {*ranked[-2:]}
        for member in copied:
            row = rows[number + 1, member]
            source = rows[number, row.copied_from]
            assert row.copied_from in ranked[:2]
            assert row.seed == source.seed
            assert row.line.values[:-1] == source.line.values
    best = min(rows[5, member].score for member in range(6))
    assert result.best.score == best
    values = result.schedule.values(epochs=5, steps_per_epoch=2)
    assert values[::2].tolist() == [row.values["learning_rate"] for row in result.lineage]
    assert "8 copies; the members of the last round come from" in result.report()
    assert f"Best: member {result.best.member} (loss " in result.report()


def test_rounds_of_several_epochs_and_a_shorter_last_one():
    result = run_line(population(size=2, every="2 epochs"), epochs=5)
    assert [row.epoch for row in result.rows] == [2, 2, 4, 4, 5, 5]
    assert [len(row.logs["loss"]) for row in result.rows] == [2, 2, 2, 2, 1, 1]
    curve = result.schedule.values(epochs=5, steps_per_epoch=1)
    rates = [row.values["learning_rate"] for row in result.lineage]
    assert curve.tolist() == [rates[0], rates[0], rates[1], rates[1], rates[2]]


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "ends", "make"),
    [
        ("momentum", (0.5, 0.95), lambda **more: keras.optimizers.SGD(**{"momentum": 0.9} | more)),
        ("beta_1", (0.5, 0.95), keras.optimizers.Adam),
        (
            "weight_decay",
            (0.1, 10.0),
            lambda **more: keras.optimizers.SGD(**{"weight_decay": 0.1} | more),
        ),
    ],
)
def test_other_hyperparameters_move_inside_the_step(name, ends, make):
    x, y = line_data()
    ranges = {"learning_rate": (0.001, 0.01), name: ends}
    training = population(size=3, parameters=ranges, optimizer=make())
    result = run_line(training, epochs=3)
    assert list(result.schedules) == ["learning_rate", name]
    for row in result.rows[:3]:
        keras.utils.set_random_seed(row.seed)
        model = line(make(**row.values))
        history = model.fit(x, y, epochs=1, batch_size=8, verbose=0)
        assert row.logs["loss"] == pytest.approx(history.history["loss"], rel=1e-5)
    assert len({row.values[name] for row in result.lineage}) > 1 or len(result.rows) == 9
    keras.utils.set_random_seed(result.best.seed)
    model = line(make())
    moved = ParamScheduler(**result.schedules)
    model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=[moved])
    for one, other in zip(model.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.full
def test_the_most_of_a_metric_may_be_best():
    (x, y), validation = digits()
    training = population((1e-4, 1e-2), 3, optimizer="adam", monitor="val_accuracy")
    result = training.run(classifier, x, y, validation_data=validation, epochs=2, batch_size=64)
    scores = [row.score for row in result.rows if row.round == 2]
    assert result.best.score == max(scores)
    (copy,) = (row for row in result.rows if row.copied_from is not None)
    first = {row.member: row.score for row in result.rows if row.round == 1}
    assert first[copy.copied_from] == max(first.values())
    assert first[copy.member] == min(first.values())


# What does not change the result ------------------------------------------------------------------


class Contrary(LocalEngine):
    """Runs stretches in a random order, and loses every other state."""

    def run(self, stretches):
        stretches = random.Random(0).sample(stretches, len(stretches))
        for number, outcome in enumerate(super().run(stretches)):
            yield dataclasses.replace(outcome, state=outcome.state if number % 2 else None)


@pytest.mark.full
def test_the_engine_does_not_change_the_result():
    training = population(size=5, quantile=0.4)
    assert plain(run_line(training, engine=Contrary())) == plain(run_line(training))


@pytest.mark.full
def test_test_data_decide_nothing():
    x, y = line_data()
    usual = run_line(population())
    tested = run_line(population(), test_data=(x, -y))
    assert [row.line for row in tested.rows] == [row.line for row in usual.rows]
    assert [row.logs for row in tested.rows] == [row.logs for row in usual.rows]
    assert {bool(row.test) for row in tested.rows if row.round < 4} == {False}
    assert tested.best.test["loss"] > tested.best.score
    assert f"On the test data: loss {tested.best.test['loss']:.4g}" in tested.report()


@pytest.mark.full
def test_the_random_states_of_the_program_stay():
    keras.utils.set_random_seed(3)
    result = run_line(population(size=2), epochs=2)
    after = random.random(), float(keras.random.normal(()))
    keras.utils.set_random_seed(3)
    assert after == (random.random(), float(keras.random.normal(())))
    again = run_line(population(size=2), epochs=2)
    assert plain(again) == plain(result)
    other = run_line(population(size=2, seed=1), epochs=2)
    assert {row.seed for row in other.rows}.isdisjoint(row.seed for row in result.rows)


# Members that are lost ----------------------------------------------------------------------------


@pytest.mark.full
def test_a_member_that_diverges_is_replaced_and_said_so():
    training = population((1e-4, 1e12), size=8, seed=1, resample=0.0)
    result = run_line(training, epochs=3)
    lost = [row for row in result.rows if row.is_lost]
    assert {row.status for row in lost if row.round == 1} == {"diverged"}
    assert 1 <= len([row for row in lost if row.round == 1]) < 6
    rows = by_place(result)
    for row in lost:
        assert np.isnan(row.score)
        if row.round < 3:
            following = rows[row.round + 1, row.member]
            source = rows[row.round, following.copied_from]
            assert not source.is_lost
            text = f"Member {row.member} diverged in round {row.round} and was replaced by a copy "
            assert text + f"of member {source.member} (the loss was " in result.report()
    assert not result.best.is_lost


def test_a_score_that_is_not_a_number_is_no_score():
    x, y = line_data()
    fit = {"validation_data": (x, y * np.float32("nan"))}
    result = run_line(population(size=2), epochs=2, **fit)
    assert {row.status for row in result.rows} == {"diverged"}
    assert result.rows[0].reason == "val_loss was nan"
    assert len(result.rows) == 2, "nobody is left to copy"
    with pytest.raises(NoSuggestion, match=r"No member of the population.*val_loss was nan"):
        result.best  # noqa: B018
    with pytest.raises(NoSuggestion):
        result.model  # noqa: B018
    assert "No member of the population has come to the end" in result.report()


class Breaks(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise OSError("disk full")


class Stops(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


@pytest.mark.full
@pytest.mark.parametrize(("kind", "status"), [(Breaks, "failed"), (Stops, "stopped")])
def test_a_member_that_fails_is_replaced(kind, status):
    def callbacks(line):
        return [kind()] if line.seed == 1 and len(line.values) == 1 else []

    result = run_line(population(every=2), epochs=5, callbacks=callbacks)
    (lost,) = (row for row in result.rows if row.is_lost)
    assert (lost.member, lost.round, lost.status) == (1, 1, status)
    following = by_place(result)[2, 1]
    assert following.copied_from is not None
    assert following.seed != 1
    how = {"failed": "failed", "stopped": "was stopped"}[status]
    assert f"Member 1 {how} in round 1 and was replaced by a copy of member" in result.report()
    if status == "failed":
        assert "OSError: disk full" in result.report()


def test_a_build_that_raises_says_why():
    def build(optimizer):
        raise RuntimeError("no such layer")

    x, y = line_data()
    result = population().run(build, x, y, epochs=2)
    with pytest.raises(NoSuggestion, match="no such layer"):
        result.best  # noqa: B018


@pytest.mark.full
def test_ctrl_c_keeps_what_is_finished():
    class Interrupts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    def callbacks_of(member, number):
        def callbacks(line):
            return [Interrupts()] if (line.seed, len(line.values)) == (member, number) else []

        return callbacks

    usual = run_line(population())
    survivor = next(row.seed for row in usual.rows if row.round == 3)
    result = run_line(population(), callbacks=callbacks_of(survivor, 3))
    assert result.interrupted
    assert {row.round for row in result.last_round} == {2}
    first_two = [row for row in usual.rows if row.round <= 2]
    assert [row.line for row in result.rows if row.round <= 2] == [row.line for row in first_two]
    assert result.best.score == min(row.score for row in first_two if row.round == 2)
    x, y = line_data()
    assert result.model.evaluate(x, y, verbose=0) > 0.0
    assert "interrupted" in result.report()
    with pytest.raises(KeyboardInterrupt):
        run_line(population(), callbacks=callbacks_of(0, 1))


def test_training_compiles_once():
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch compiles nothing")
    traces = []
    build = traced_line(traces)
    x, y = line_data()
    counts = []
    for epochs in (2, 5):
        traces.clear()
        population(size=2).run(build, x, y, epochs=epochs, batch_size=8)
        counts.append(len(traces))
    # Keras's fit on JAX infers shapes anew after a restore, which compiles nothing.
    symbolic = 2 if keras.backend.backend() == "jax" else 0
    assert counts[1] - counts[0] <= 6 * symbolic


def test_the_report_says_why_fit_trains():
    x, y = line_data()
    training = PopulationBasedTraining(
        {"learning_rate": (1e-3, 1e-1)}, population=2, optimizer="sgd", verbose=0
    )
    result = training.run(line, x, y, epochs=2, callbacks=[keras.callbacks.Callback()])
    assert "Trained by fit, because callbacks are given." in result.report()
    assert set(result.to_pandas().route) == {"fit"}
