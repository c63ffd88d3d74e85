"""A run that is killed and resumed follows the rates of the run that was not, update for update."""

import functools
import json
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from killed_fits import VX, VY, Kill, Killed, X, Y, fit, plateau, trained
from models import settled
from selection import mostly_full
from shapes import EPOCHS, SHAPES, STEPS

from keras_lr import (
    CosineDecay,
    Function,
    LinearDecay,
    LRHistory,
    OneCycle,
    ParamScheduler,
    ReduceLROnPlateau,
)

pytestmark = pytest.mark.core


class OwnCheckpoint(keras.callbacks.Callback):
    """A checkpoint that a user wrote, of which nothing here can know that it is one."""

    def __init__(self, backup):
        super().__init__()
        self.backup = backup
        hooks = [
            "set_model",
            "on_train_begin",
            "on_epoch_end",
            "on_train_batch_end",
            "on_train_end",
        ]
        for hook in hooks:
            setattr(self, hook, getattr(backup, hook))


class KilledBackup(keras.callbacks.BackupAndRestore):
    """Killed as soon as it has written the checkpoint of one epoch."""

    def __init__(self, folder, last):
        super().__init__(folder)
        self.last = last

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if epoch == self.last:
            raise Killed


ORDERS = ["backup first", "own checkpoint first", "ours first"]


def ordered(order, ours, folder, *kill):
    """Return the callbacks of a fit; the kill is between the checkpoint and ours."""
    backup = keras.callbacks.BackupAndRestore(folder / "backup")
    if order == "backup first":
        # Ours go ahead of it, so that only it can be killed in between.
        backup = KilledBackup(folder / "backup", 2) if kill else backup
        return [backup, *ours]
    if order == "own checkpoint first":
        return [OwnCheckpoint(backup), *kill, *ours]
    return [*ours, *kill, backup]


def halve(epoch, lr):
    return lr * 0.5 if epoch % 2 else lr


CASES = {
    "schedule": lambda folder: [CosineDecay(0.1).warmup(1)],
    "momentum too": lambda folder: [OneCycle(0.1)],
    "several": lambda folder: [
        ParamScheduler(learning_rate=LinearDecay(0.1), momentum=LinearDecay(0.5, 0.9))
    ],
    "function of the rate": lambda folder: [Function(halve)],
    "composed function of the rate": lambda folder: [0.1 * Function(halve).warmup(1)],
    "plateau": lambda folder: [plateau(folder)],
    "validation": lambda folder: [plateau(folder, monitor="val_loss")],
    "cooldown": lambda folder: [plateau(folder, cooldown=2, min_delta=9.0)],
    "raised": lambda folder: [
        plateau(folder, increase=3.0, increase_when="stuck", increase_after=3, min_delta=9.0)
    ],
    "best weights": lambda folder: [plateau(folder, monitor="val_loss", restore_best_weights=True)],
    "best weights of training": lambda folder: [
        plateau(folder, patience=2, restore_best_weights=True)
    ],
    "steps": lambda folder: [plateau(folder, patience="4 steps", smoothing=0.5)],
    "schedule and plateau": lambda folder: [CosineDecay(0.5), plateau(folder)],
    "plateau and schedule": lambda folder: [
        plateau(folder, monitor="val_loss"),
        LinearDecay(0.0, 0.5, over=1) >> CosineDecay(0.5),
    ],
}
VALIDATED = {
    case: {"validation_data": (VX, VY)}
    for case in ("validation", "best weights", "plateau and schedule")
}


@functools.cache
def uninterrupted(case):
    history = LRHistory()
    fit([*CASES[case](None), history], **VALIDATED.get(case, {}))
    return history


def assert_same(history, expected):
    assert history.step.tolist() == list(range(len(expected)))
    assert history.names == expected.names
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-4, err_msg=name)
    # The rates are those, not about those.
    np.testing.assert_array_equal(history.learning_rate, expected.learning_rate)


@pytest.mark.parametrize(
    "case", ["plateau", "validation", "cooldown", "raised", "best weights", "steps"]
)
def test_the_rate_is_cut_on_both_sides_of_the_interruption(case):
    expected = uninterrupted(case).learning_rate.reshape(EPOCHS, -1)
    assert len(np.unique(expected[:4])) > 1
    assert len(np.unique(expected[3:])) > 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "order",
    [
        "backup first",
        pytest.param("own checkpoint first", marks=pytest.mark.slow),
        pytest.param("ours first", marks=pytest.mark.slow),
    ],
)
def test_killed_between_the_checkpoint_and_our_state(case, order, tmp_path):
    def callbacks(*kill):
        history = LRHistory(state_path=tmp_path / "history.npz")
        return history, ordered(order, [*CASES[case](tmp_path), history], tmp_path, *kill)

    fit(callbacks(Kill("epoch_end", 2))[1], killed=True, **VALIDATED.get(case, {}))
    history, resumed = callbacks()
    fit(resumed, **VALIDATED.get(case, {}))
    assert_same(history, uninterrupted(case))


@pytest.mark.parametrize("case", ["plateau", "schedule and plateau", "best weights"])
def test_killed_again_and_again(case, tmp_path):
    def callbacks(*kill):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        history = LRHistory(state_path=tmp_path / "history.npz")
        return [*CASES[case](tmp_path), backup, *kill, history]

    hooks = [
        "train_batch_begin",
        "train_batch_end",
        "epoch_begin",
        "epoch_end",
        "train_batch_begin",
    ]
    for epoch, hook in enumerate(hooks):
        fit(callbacks(Kill(hook, epoch)), killed=True, **VALIDATED.get(case, {}))
    resumed = callbacks()
    fit(resumed, **VALIDATED.get(case, {}))
    assert_same(resumed[-1], uninterrupted(case))


@pytest.mark.parametrize("name", SHAPES)
def test_every_schedule_goes_on_at_initial_epoch(name):
    schedule = SHAPES[name].make()
    curve = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)
    history = LRHistory()
    fit([schedule, history], batch_size=1, initial_epoch=EPOCHS - 1)
    np.testing.assert_array_equal(history.learning_rate, curve[-STEPS:].astype(np.float32))
    assert history.step.tolist() == list(range(len(curve) - STEPS, len(curve)))


@pytest.mark.parametrize("case", ["schedule and plateau", "function of the rate"])
def test_model_checkpoint_and_initial_epoch(case, tmp_path):
    path = tmp_path / "model.keras"
    history = LRHistory(state_path=tmp_path / "history.npz")
    checkpoint = keras.callbacks.ModelCheckpoint(path)
    # The epoch that the kill interrupts is trained again.
    fit(
        [checkpoint, *CASES[case](tmp_path), history, Kill("train_batch_begin", 3)],
        killed=True,
    )
    model = keras.models.load_model(path)
    history = LRHistory(state_path=tmp_path / "history.npz")
    fit([*CASES[case](tmp_path), history], model=model, initial_epoch=3)
    assert_same(history, uninterrupted(case))


def test_a_checkpoint_from_inside_an_epoch_has_the_rate_of_that_epoch():
    expected = uninterrupted("function of the rate").learning_rate
    model = fit([Function(halve), Kill("train_batch_end", 1)], killed=True)
    history = LRHistory()
    fit([Function(halve), history], model=settled(model), initial_epoch=1)
    np.testing.assert_array_equal(history.learning_rate, expected[-len(history) :])
    assert len(np.unique(history.learning_rate)) > 1


class Losses(keras.callbacks.Callback):
    """The same metric in every run, whatever the weights."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = [5.0, 4.0, 4.0, 3.0, 3.0, 3.0][epoch]


@pytest.mark.parametrize("order", mostly_full(["backup first", "ours first"], ["ours first"]))
@pytest.mark.parametrize(
    "case",
    [
        "several",
        "plateau and schedule",
        "function of the rate",
        "composed function of the rate",
    ],
)
def test_save_freq_in_batches(case, order, tmp_path):
    """The checkpoint is from inside an epoch, which Keras trains again from its start."""

    def callbacks(folder, *kill):
        history = LRHistory(state_path=folder / "history.npz")
        ours = [Losses(), *CASES[case](folder), history]
        backup = keras.callbacks.BackupAndRestore(folder / "backup", save_freq=5)
        return history, [backup, *kill, *ours] if order == "backup first" else [
            *ours,
            *kill,
            backup,
        ]

    (tmp_path / "whole").mkdir()
    expected, callbacks_of_one_run = callbacks(tmp_path / "whole")
    fit(callbacks_of_one_run)
    fit(callbacks(tmp_path, Kill("train_batch_begin", 4))[1], killed=True)
    history, resumed = callbacks(tmp_path)
    fit(resumed)
    assert history.step.tolist() == expected.step.tolist()
    np.testing.assert_array_equal(history.learning_rate, expected.learning_rate)


@pytest.mark.parametrize("where", ["before it", "after it"])
@pytest.mark.parametrize("kill", ["checkpoint", "epoch_end"])
def test_a_metric_that_another_callback_writes_behind_the_checkpoint(where, kill, tmp_path):
    def run(folder, backup, *kill):
        ours, history = plateau(folder, monitor="val_loss"), LRHistory()
        before, after = ([Losses()], []) if where == "before it" else ([], [Losses()])
        fit([*before, backup, *after, ours, history, *kill], killed=bool(kill))
        return history.learning_rate

    (tmp_path / "whole").mkdir()
    expected = run(tmp_path / "whole", keras.callbacks.BackupAndRestore(tmp_path / "whole/backup"))
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    if kill == "checkpoint":
        run(tmp_path, KilledBackup(tmp_path / "backup", 3), keras.callbacks.Callback())
    else:
        run(tmp_path, backup, Kill("epoch_end", 3))
    resumed = run(tmp_path, backup)
    assert len(np.unique(resumed)) > 1
    np.testing.assert_array_equal(resumed, expected[-len(resumed) :])


def test_a_list_of_callbacks_has_its_order_again_after_the_fit():
    backup, ours = keras.callbacks.BackupAndRestore("nowhere"), plateau(None)
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: seen.append(group.callbacks))
    backup.on_train_begin = backup.on_epoch_end = lambda *_, **__: None
    model, _ = trained()
    group = keras.callbacks.CallbackList(
        [backup, ours, look], add_history=True, model=model, epochs=1, steps=3
    )
    order = list(group.callbacks)
    fit(group, epochs=1)
    assert seen[0].index(backup) > seen[0].index(ours)
    assert group.callbacks == order


def test_a_composed_function_of_the_rate_needs_to_know_where_it_began(tmp_path):
    expected = Function(halve, initial_lr=0.5) * 0.1
    curve = expected.values(epochs=EPOCHS, steps_per_epoch=3).astype(np.float32)
    schedule, history = Function(halve) * 0.1, LRHistory()
    model = fit([schedule, history], epochs=3)
    path = tmp_path / "model.keras"
    model.save(path)
    fit([schedule, history], model=model, initial_epoch=3)
    np.testing.assert_array_equal(history.learning_rate, curve)
    # Another process cannot know it.
    with pytest.raises(ValueError, match=r"also influence.*Pass initial_lr"):
        fit([Function(halve) * 0.1], model=keras.models.load_model(path), initial_epoch=3)


@pytest.mark.parametrize("order", ORDERS)
def test_an_epoch_of_unknown_length(order, tmp_path):
    tf = pytest.importorskip("tensorflow")

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).filter(lambda x, y: True)

    def run(*kill):
        model, pristine = trained()
        pristine.restore()
        history = LRHistory(state_path=tmp_path / "history.npz")
        ours = [CosineDecay(0.1), plateau(tmp_path), history]
        callbacks = ordered(order, ours, tmp_path, *kill)
        model.fit(data, epochs=EPOCHS, verbose=0, callbacks=callbacks)
        return history

    expected = run()
    with pytest.raises(Killed):
        run(Kill("epoch_end", 2))
    assert np.isfinite(expected.loss).all()
    assert_same(run(), expected)


def test_keras_own_forgets_what_ours_keeps(tmp_path):
    """Keras's own callback begins anew: after a resume it has forgotten the best value."""

    def callbacks(kind, *kill):
        backup = keras.callbacks.BackupAndRestore(tmp_path / kind.__module__)
        options = {"monitor": "val_loss", "patience": 2, "factor": 0.5}
        if kind is ReduceLROnPlateau:
            options["state_path"] = tmp_path / "state.json"
        return [Losses(), kind(**options), backup, *kill]

    final = {}
    for kind in (keras.callbacks.ReduceLROnPlateau, ReduceLROnPlateau):
        fit(callbacks(kind, Kill("epoch_begin", 5)), killed=True)
        model = fit(callbacks(kind))
        final[kind] = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    assert final == {keras.callbacks.ReduceLROnPlateau: 0.5, ReduceLROnPlateau: 0.25}


class Grow(keras.callbacks.Callback):
    """Changes the weights at an epoch's end, as an average of weights does."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.set_weights([weight + 1.0 for weight in self.model.get_weights()])


@pytest.mark.parametrize("others", [[], [Grow]])
def test_the_best_weights_are_written_when_they_have_changed(others, tmp_path, monkeypatch):
    written, archive = [], zipfile.ZipFile

    def counted(file, mode="r", **options):
        written.extend([1] if mode == "w" else [])
        return archive(file, mode, **options)

    monkeypatch.setattr("keras_lr._state.zipfile.ZipFile", counted)
    model, pristine = trained()
    pristine.restore()
    best = plateau(tmp_path, monitor="loss", restore_best_weights=True)
    fit([*(other() for other in others), best], model=model, epochs=1)
    assert len(written) == 1 + len(others)
    stored = np.load(next(tmp_path.glob("*.best-0.npz")))
    for i, weight in enumerate(model.get_weights()):
        np.testing.assert_array_equal(stored[str(i)], weight)


def test_state_dict_for_a_checkpoint_of_ones_own():
    expected = uninterrupted("cooldown")
    options = {"cooldown": 2, "min_delta": 9.0}
    first = plateau(None, **options)
    fit([first, Kill("epoch_begin", 3)], killed=True)
    state = json.loads(json.dumps(first.state_dict()))
    second, history = plateau(None, **options), LRHistory()
    second.load_state_dict(state, epoch=3)
    fit([second, history], initial_epoch=3)
    np.testing.assert_array_equal(history.learning_rate, expected.learning_rate[9:])


# Real processes.


@pytest.mark.slow
def test_thirty_kills(tmp_path):
    program = pathlib.Path(__file__).parents[1] / "programs" / "killed.py"
    result = subprocess.run(
        [sys.executable, program, tmp_path, "30"], capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout + result.stderr
    kills = [line for line in result.stdout.splitlines() if line.startswith("killed")]
    assert len(kills) == 30
