"""What a record shows while a fit runs: the progress bar, and curves in a notebook."""

import copy
import gc
import re
import sys
import types
import weakref

import keras
import numpy as np
import pytest
from models import meter, samples

from keras_lr import CosineDecay, LinearDecay, LRHistory, ParamScheduler, ReduceLROnPlateau
from keras_lr.history.live import SHARE, LiveCurves

pytestmark = pytest.mark.core


def fit(callbacks, model=None, steps=8, **options):
    """Fit with a progress bar that redraws at every batch."""
    model = meter(steps) if model is None else model
    x, y = samples(steps)
    settings = {"epochs": 2, "batch_size": 2, "shuffle": False, "verbose": 1} | options
    model.fit(x, y, callbacks=callbacks, **settings)
    return model


@pytest.fixture(autouse=True)
def every_batch(monkeypatch):
    """Let the bar show every batch, however quickly they follow."""
    begin = keras.utils.Progbar.__init__

    def init(self, *arguments, **options):
        begin(self, *arguments, **options | {"interval": 0.0})

    monkeypatch.setattr(keras.utils.Progbar, "__init__", init)


def shown(said, name="learning_rate"):
    """Return the values of a name on every state of the bar, by the batch that it shows."""
    found = {}
    for epoch, text in enumerate(re.split(r"Epoch \d+/\d+", said)[1:]):
        for state in re.split(r"[\r\n]", text):
            batch = re.search(r"(\d+)/\d+", state)
            value = re.search(rf"\b{name}: ([\d.e+-]+)", state)
            if batch and value:
                found.setdefault((epoch, int(batch[1])), float(value[1]))
    return found


def test_the_rate_of_each_batch_stands_in_the_progress_bar(capsys):
    rate = CosineDecay(1.0)
    fit([rate, rate.history.in_progress_bar()])
    found = shown(capsys.readouterr().out)
    assert {batch for _, batch in found} >= {1, 4, 7}
    used = rate.history.learning_rate
    for (epoch, batch), value in found.items():
        assert value == pytest.approx(used[8 * epoch + batch - 1], abs=1e-3)


def test_all_that_moves_is_shown_and_nothing_without_being_asked_for(capsys):
    def both():
        return ParamScheduler(learning_rate=CosineDecay(1.0), momentum=LinearDecay(0.9, 0.5))

    moving, plain = both(), both()
    fit([moving, moving.history.in_progress_bar()], meter(8, keras.optimizers.SGD(momentum=0.9)))
    said = capsys.readouterr().out
    assert shown(said, "momentum")[0, 1] == pytest.approx(0.9, abs=1e-3)
    assert shown(said)[0, 1] == pytest.approx(1.0, abs=1e-3)
    fit([plain], meter(8, keras.optimizers.SGD(momentum=0.9)))
    assert {batch for _, batch in shown(capsys.readouterr().out)} <= {8}


def test_a_rate_that_nobody_here_moves_is_shown_as_it_is_when_the_bar_is_drawn(capsys):
    """Keras may draw in a thread, when the next batches have begun."""

    class Change(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 4:
                self.model.optimizer.learning_rate = 0.25

    history = LRHistory().in_progress_bar()
    fit([history, Change()], meter(8, keras.optimizers.SGD(0.125)), epochs=2)
    found = shown(capsys.readouterr().out)
    assert {batch for epoch, batch in found if epoch == 0} >= {1, 4, 5, 7}
    assert history.learning_rate.tolist() == [0.125] * 4 + [0.25] * 12
    changed = {at: value for at, value in found.items() if at > (0, 4)}
    assert {*changed.values()} == {0.25}
    assert {*found.values()} <= {0.125, 0.25}


def test_a_rate_that_stays_is_shown_from_the_first_batch_on(capsys):
    fit([LRHistory().in_progress_bar()], meter(8, keras.optimizers.SGD(0.125)))
    found = shown(capsys.readouterr().out)
    assert {batch for _, batch in found} >= {1, 4, 7}
    assert {*found.values()} == {0.125}


def test_a_plateau_shows_its_rate(capsys):
    cuts = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100.0)
    fit([cuts, cuts.history.in_progress_bar()], meter(8, keras.optimizers.SGD(0.5)), epochs=3)
    found = shown(capsys.readouterr().out)
    assert [found[epoch, 2] for epoch in range(3)] == [0.5, 0.5, 0.25]


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no steps_per_execution on PyTorch"
)
def test_values_of_several_batches_at_once_are_those_of_the_last(capsys):
    rate = LinearDecay(0.8, 0.0)
    fit([rate, rate.history.in_progress_bar()], meter(8, steps_per_execution=4))
    found = shown(capsys.readouterr().out)
    assert found[0, 4] == pytest.approx(0.65, abs=1e-3)


def test_no_other_callback_sees_the_values_and_the_bar_is_left_as_it_was(capsys):
    seen = []

    class Reader(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append({*logs})

    bar = keras.callbacks.ProgbarLogger()
    rate = CosineDecay(1.0)
    history = rate.history.in_progress_bar()
    for _ in range(2):
        fit([bar, Reader(), rate, history])
        assert "on_train_batch_end" not in vars(bar)
        assert (0, 3) in shown(capsys.readouterr().out)
    assert {name for names in seen for name in names} == {"loss"}


def test_a_fit_that_an_exception_ends_keeps_nothing_alive(capsys):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise RuntimeError("stop")

    bar, rate = keras.callbacks.ProgbarLogger(), CosineDecay(1.0)
    model = meter(8)
    with pytest.raises(RuntimeError, match="stop"):
        fit([bar, rate, rate.history.in_progress_bar(), Stop()], model)
    fit([bar], model)
    assert (0, 3) not in shown(capsys.readouterr().out.rpartition("Epoch 1/2")[2])
    gone = weakref.ref(model)
    del model, rate
    bar.set_model(None)
    gc.collect()
    assert gone() is None


def test_the_wish_to_be_shown_survives_a_copy():
    history = copy.deepcopy(LRHistory().live().in_progress_bar())
    assert history.__getstate__()["shown"] == {"_is_live": True, "_is_in_progress_bar": True}
    assert LRHistory().__getstate__()["shown"] == {"_is_live": False, "_is_in_progress_bar": False}


# Live curves --------------------------------------------------------------------------------------


@pytest.fixture
def notebook(monkeypatch):
    """A notebook that notes what each of its outputs shows."""
    display = pytest.importorskip("IPython.display")
    outputs = []

    class Handle:
        def __init__(self, shown):
            outputs.append([shown.data])
            self.output = outputs[-1]

        def update(self, shown):
            self.output.append(shown.data)

    monkeypatch.setattr(display, "display", lambda shown, display_id: Handle(shown))
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    return outputs


def test_a_notebook_redraws_one_output_and_ends_with_the_whole(notebook, monkeypatch):
    monkeypatch.setattr("keras_lr.history.live.SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr("keras_lr.history.live.SHARE", float("inf"))
    rate = CosineDecay(1.0)
    fit([rate, rate.history.live()], verbose=0)
    (drawn,) = notebook
    assert len(drawn) == 2 * 8 + 1
    counts = [int(re.search(r"LRHistory\((\d+) step", html)[1]) for html in drawn]
    assert counts == [*range(1, 17), 16]
    assert drawn[-1] == rate.history._repr_html_()


def test_reading_in_between_changes_nothing_of_the_record(notebook, monkeypatch):
    monkeypatch.setattr("keras_lr.history.live.SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr("keras_lr.history.live.SHARE", float("inf"))
    shown, plain = CosineDecay(1.0), CosineDecay(1.0)
    fit([shown, shown.history.live()], verbose=0)
    fit([plain], verbose=0)
    assert shown.history.names == plain.history.names
    for name in plain.history:
        np.testing.assert_allclose(shown.history[name], plain.history[name], rtol=1e-5)


MOST = 0.05
"""The share of the time of a fit that drawing may take."""


@pytest.mark.parametrize("step", [1e-3, 0.25, 30.0])
@pytest.mark.parametrize("cost", [0.01, 1.0])
@pytest.mark.parametrize("growth", [1.0, 1.1])
def test_drawing_takes_at_most_a_small_share_of_the_time(step, cost, growth, notebook):
    """By a clock that the test turns; each drawing may cost more than the one before it."""
    time, costs = 0.0, []

    def render():
        nonlocal time
        costs.append(cost * growth ** len(costs))
        time += costs[-1]
        return "<b>"

    curves = LiveCurves(render, clock=lambda: time)
    # With its only drawing in between a fit is as long as the pause before it.
    shortest = max(1.0, 3.0 * cost / MOST)
    for steps in range(1, int(400.0 * max(cost, step) / step)):
        time += step
        curves.draw_if_due()
        last = cost * growth ** len(costs)  # when the fit ends
        if time > shortest:
            assert sum(costs) + last <= MOST * (time + last), (steps, time, len(costs))
    curves.draw()
    assert len(notebook[0]) == len(costs)
    # And it takes that share: there is a drawing nearly as often as its cost allows.
    if growth == 1.0:
        assert len(costs) >= 0.5 * time / max(1.0, cost / SHARE, step)


def test_outside_a_notebook_a_warning_says_that_nothing_is_drawn(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    rate = CosineDecay(1.0)
    with pytest.warns(UserWarning, match="nothing is drawn") as warned:
        fit([rate, rate.history.live()], verbose=0)
    assert warned[0].filename == __file__
    assert len(rate.history) == 16
