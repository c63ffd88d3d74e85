"""Fits that cannot be right are refused before the first update, and doubtful ones warned of."""

import inspect
import math
import re
from typing import Annotated

import keras
import numpy as np
import pytest
from models import fit, meter, samples, settled
from shapes import EPOCHS, SHAPES, STEPS, written

import keras_lr
from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    LRHistory,
    OneCycle,
    ParamScheduler,
    PiecewiseConstant,
    Schedule,
    StepDecay,
    UnresolvedLength,
    WarmupStableDecay,
)
from keras_lr._fields.kinds import Number
from keras_lr.schedules.base import schedule


def untouched(model):
    return not settled(model).get_weights()[0].any()


def generator():
    x, y = samples()
    while True:
        for first in range(0, len(x), 2):
            yield x[first : first + 2], y[first : first + 2]


def test_a_schedule_in_the_place_of_a_rate_says_where_it_belongs():
    model = meter(learning_rate=CosineDecay(0.1))
    with pytest.raises(TypeError, match=r"fit\(callbacks=\[...\]\).*in_graph"):
        fit(model, [])


@pytest.mark.core
@pytest.mark.parametrize(
    "callback",
    [CosineDecay(0.1), ParamScheduler(learning_rate=CosineDecay(0.1)), OneCycle(0.1)],
    ids=lambda value: type(value).__name__,
)
def test_an_optimizer_with_a_schedule_of_its_own(callback):
    inside = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model = meter(learning_rate=inside)
    with pytest.raises(TypeError, match=r"SGD\(learning_rate=ExponentialDecay") as caught:
        fit(model, callback, epochs=1)
    text = str(caught.value)
    for advice in (
        "cannot be set from a callback",
        "SGD(learning_rate=0.001)",
        "keras_lr.Function(schedule)",
        "keras_lr.LRHistory() alone",
    ):
        assert advice in text
    assert untouched(model)


@pytest.mark.core
def test_an_optimizer_with_a_schedule_of_ours():
    model = meter(learning_rate=CosineDecay(0.1).in_graph(epochs=1, steps_per_epoch=5))
    with pytest.raises(TypeError, match=r"SGD\(learning_rate=InGraph"):
        fit(model, Constant(0.1), epochs=1)
    assert untouched(model)


@pytest.mark.core
def test_a_schedule_in_the_scheduler_of_keras():
    model, schedule = meter(), CosineDecay(0.1)
    with pytest.raises(ValueError, match=r"Pass it to fit\(callbacks=.*LearningRateScheduler"):
        fit(model, keras.callbacks.LearningRateScheduler(schedule))
    in_graph = schedule.in_graph(epochs=1, steps_per_epoch=5)
    with pytest.raises(ValueError, match=r"LearningRateScheduler.*fit\(callbacks="):
        fit(model, keras.callbacks.LearningRateScheduler(in_graph))
    assert untouched(model)


@pytest.mark.core
@pytest.mark.parametrize(
    "cls", [CosineDecay, OneCycle, ParamScheduler, LRHistory, keras_lr.ReduceLROnPlateau]
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_class_in_the_place_of_an_object(cls, listed):
    model, name = meter(), cls.__name__
    words = rf"callbacks=\[{name}\] holds the class. Pass an object: callbacks=\[{name}\(...\)\]"
    with pytest.raises(TypeError, match=words):
        model.fit(*samples(), verbose=0, callbacks=[cls] if listed else cls)
    assert untouched(model)
    callback = CosineDecay(0.1)
    CosineDecay.set_model(callback, model)
    assert callback.model is model


@pytest.mark.core
@pytest.mark.parametrize("callback", [CosineDecay(0.1), LRHistory()], ids=["schedule", "history"])
def test_a_model_that_is_not_compiled(callback):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"compile\("):
        model.fit(*samples(), callbacks=[callback], verbose=0)
    # Keras notices first; a trainer of one's own may not.
    callback.set_model(model)
    callback.set_params({"epochs": 1, "steps": 5})
    if not isinstance(callback, LRHistory):
        with pytest.raises(ValueError, match=r"not compiled\. Call model\.compile\("):
            callback.on_train_begin()


@pytest.mark.core
@pytest.mark.parametrize(
    ("schedule", "length"),
    [
        (LinearDecay(0.1, over="4 steps") >> CosineDecay(0.1), "4 steps"),
        (LinearDecay(0.1).warmup("1 steps"), "1 steps"),
        (LinearDecay(0.1, over="20 steps") >> StepDecay(0.1, every=1), "20 steps"),
    ],
    ids=written,
)
def test_steps_and_epochs_of_an_unknown_number_of_steps(schedule, length):
    model = meter()
    data = (batch for batch in [next(generator())] * 3)
    with pytest.raises(UnresolvedLength) as caught:
        fit(model, schedule, data, epochs=2)
    text = str(caught.value)
    assert f"The length {length!r} cannot be placed" in text
    assert "Pass `steps_per_epoch` to `fit`, or give every length of the schedule in epochs" in text
    assert untouched(model)


@pytest.mark.core
def test_a_share_is_known_with_steps_per_epoch():
    rates = fit(meter(), LinearDecay(1.0, over="50%"), generator(), steps_per_epoch=5, epochs=2)
    assert rates[0] == 1.0
    assert not rates[5:].any()


@pytest.mark.core
def test_parts_that_do_not_fit_the_fit_say_so_before_the_first_update():
    model = meter()
    with pytest.raises(ValueError, match="the warmup leaves nothing of the cycle's 10 steps"):
        fit(model, OneCycle(0.1, warmup=5), epochs=2)
    with pytest.raises(ValueError, match="are longer than the whole"):
        fit(model, WarmupStableDecay(0.1, warmup=1, decay=2), epochs=2)
    with pytest.raises(ValueError, match="`boundaries` must be lengths that ascend"):
        fit(model, PiecewiseConstant([1, "3 steps"], [0.3, 0.2, 0.1]), epochs=2)
    assert untouched(model)


@pytest.mark.core
def test_what_a_function_returns_is_checked_before_the_update():
    model = meter()
    schedule = Function(lambda epoch: 0.5 if epoch == 0 else -1.0)
    with pytest.raises(ValueError, match=r"Received: -1.0 at epoch 1"):
        fit(model, schedule, epochs=2)
    assert untouched(model)
    settled(model).set_weights([np.zeros((5, 1), "float32")])
    assert fit(model, Constant(0.5), epochs=1).tolist() == [0.5] * 5


@schedule
class Broken(Schedule):
    """A shape of a user's own with a mistake in its formula."""

    rate: Annotated[float, Number()]

    def value(self, step, timeline):
        return np.where(step < 3, 0.5, self.rate)


@pytest.mark.core
@pytest.mark.parametrize("rate", [math.nan, math.inf, -1.0])
def test_a_formula_that_gives_no_rate(rate, monkeypatch):
    monkeypatch.setattr(Number, "convert", lambda self, value: value)
    broken, model = Broken(rate), meter()
    with pytest.raises(ValueError, match=rf"gives learning_rate={rate} for batch 3 of the epoch"):
        fit(model, broken, epochs=1)
    assert untouched(model)
    with pytest.raises(ValueError, match=rf"gives the rate {rate} at step 3"):
        broken.in_graph(epochs=1, steps_per_epoch=5)


# What is warned of --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "missed"),
    [
        (CosineDecay(0.1).warmup(3), "CosineDecay(initial_lr=0.1)"),
        (LinearDecay(0.0, 0.1, over=3) >> Constant(0.1), "Constant(lr=0.1)"),
        (
            (Constant(0.1).lasting("60%") >> Constant(0.2).lasting("40%") >> Constant(0.3))
            .clip(max=0.2)
            .per_epoch(),
            "Constant(lr=0.3)",
        ),
        ((Constant(0.1).lasting(3) >> StepDecay(0.1)) * Constant(1.0), "StepDecay(initial_lr=0.1)"),
        ((Constant(0.1).lasting(2) >> Constant(0.2)).lasting(2), "Constant(lr=0.2)"),
    ],
)
def test_a_stage_that_never_begins_is_said(rate, missed):
    with pytest.warns(UserWarning, match=re.escape(f"ends before {missed} begins")):
        fit(meter(), [rate], epochs=3)


@pytest.mark.parametrize("name", SHAPES)
def test_every_stage_of_a_usual_schedule_begins(name):
    missed = SHAPES[name].make().unreached_stages(keras_lr.Timeline(STEPS, EPOCHS))
    assert bool(missed) == (name == "Sequence-longer-than-the-fit")


def test_a_warning_shows_the_line_of_the_user():
    with pytest.warns(UserWarning, match="rises to a rate") as caught:
        LinearDecay(0.1, 1000)
    with pytest.warns(UserWarning, match="ends before") as later:
        fit(meter(), CosineDecay(0.1).warmup(3), epochs=2)
    ours = [
        one.filename
        for one in (*caught, *later)
        if "rises to a rate" in str(one.message) or "ends before" in str(one.message)
    ]
    assert ours == [__file__, inspect.getfile(fit)]
