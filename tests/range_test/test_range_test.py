"""The range test through its public interface: the model afterwards, the curve, the stops."""

import gc
import re

import keras
import numpy as np
import pytest
from models import X, Y, network, same, state
from selection import mostly_full

from keras_lr import (
    CosineDecay,
    LRHistory,
    LRRangeTest,
    NoSuggestion,
    OneCycle,
    ParamScheduler,
    RangeTestResult,
    ReduceLROnPlateau,
)
from keras_lr._keras.state.snapshot import Snapshot

pytestmark = pytest.mark.core


def line(rate, **compiled):
    """A model whose weight is minus the sum of the rates so far, and whose loss is the weight."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(rate), lambda y, p: p, **compiled)
    return model


def quick(**arguments):
    return LRRangeTest(**{"verbose": 0, "steps": 20, "budget": 60, **arguments})


@pytest.mark.parametrize("rule", ["search", "edge"])
@pytest.mark.parametrize("trained", mostly_full([False, True], [True]))
def test_the_next_fit_is_bit_for_bit_what_it_would_have_been(rule, trained):
    after = []
    for tested in (False, True):
        model = network()
        if trained:
            model.fit(X, Y, verbose=0)
        if tested:
            quick(rule=rule).run(model, X, Y)
        model.fit(X, Y, verbose=0)
        after.append(state(model))
    assert same(*after)


class Stop(keras.callbacks.Callback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            raise self.error


@pytest.mark.full
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("from the user")])
def test_an_exception_leaves_the_model_as_it_was(error):
    model = network()
    model.fit(X, Y, verbose=0)
    before, attributes = state(model), set(vars(model))
    with pytest.raises(type(error)):
        quick().run(model, X, Y, callbacks=[Stop(error)])
    assert same(before, state(model))
    assert set(vars(model)) - attributes <= {"_keras_lr_steps"}
    model.fit(X, Y, verbose=0, callbacks=[CosineDecay(0.01)])


@pytest.fixture
def spread(request):
    """Have JAX spread batches over its devices, where asked to, as if there were several."""
    if request.param:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    yield
    keras.distribution.set_distribution(None)


@pytest.mark.parametrize(
    "spread",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX")
        ),
    ],
    indirect=True,
)
def test_no_run_keeps_its_data_until_garbage_is_collected(spread):
    def iterators():
        return [id(o) for o in gc.get_objects() if type(o).__name__.endswith("EpochIterator")]

    model = network()
    gc.collect()
    gc.disable()
    try:
        before = iterators()
        quick().run(model, X, Y)
        assert iterators() == before
    finally:
        gc.enable()


def test_restore_false_keeps_what_was_trained():
    model = network()
    before = model.get_weights()
    quick(rule="edge", restore=False).run(model, X, Y)
    assert not same(before, model.get_weights())


@pytest.mark.parametrize("shape", ["exponential", "linear"])
def test_the_ramp_goes_from_end_to_end_and_the_losses_are_those_of_each_batch(shape):
    x = np.ones((40, 1), "float32")
    test = quick(min_lr=0.01, max_lr=1.0, steps=30, shape=shape, rule="edge", stop_factor=1e9)
    result = test.run(line(0.5), x, x, batch_size=4)
    assert result.rates[0] == 0.01
    assert result.rates[-1] == pytest.approx(1.0)
    assert len(result.rates) == 30
    steps = np.diff(np.log(result.rates) if shape == "exponential" else result.rates)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    # Before update t the weight, and so the loss, is minus the sum of the rates of earlier updates.
    weights = [0.0, -0.01, *(-result.rates.cumsum()[1:-1])]
    np.testing.assert_allclose(result.values, weights, rtol=1e-4, atol=1e-4)


def test_it_stops_where_the_loss_explodes_and_says_so():
    model = network(keras.optimizers.SGD(0.1))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    result = quick(rule="edge", max_lr=1e6, steps=60).run(model, X, X[:, :3] * 10)
    assert result.ended in ("diverged", "not finite")
    assert len(result.rates) < 60


def test_not_finite_ends_it_at_once():
    x = np.ones((40, 1), "float32")
    result = quick(rule="edge", steps=30).run(line(0.5), np.nan * x, x)
    assert result.ended == "not finite"
    with pytest.raises(NoSuggestion):
        _ = result.suggestion
    assert result.confidence == 0.0
    assert "Diverged at once" in result.report()


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="on PyTorch Keras has no steps_per_execution"
)
@pytest.mark.parametrize("restore", [True, False])
def test_several_steps_per_execution_get_a_rate_each(restore):
    x = np.ones((40, 1), "float32")
    test = quick(min_lr=0.01, max_lr=1.0, rule="edge", stop_factor=1e9, restore=restore)
    one, many = line(0.5), line(0.5, steps_per_execution=5)
    for model in (one, many):
        model.fit(x, x, batch_size=4, verbose=0)
    own = many.train_function
    expected = test.run(one, x, x, batch_size=4).values
    np.testing.assert_allclose(test.run(many, x, x, batch_size=4).values, expected, rtol=1e-6)
    assert many.steps_per_execution == 5
    assert many.train_function is own
    many.fit(x, x, batch_size=4, verbose=0)


def test_repeats_take_other_orders_of_the_batches():
    result = quick(rule="edge", steps=40, repeats=3).run(network(), X, Y)
    assert (result.lower <= result.values).all()
    assert (result.values <= result.upper).all()
    assert (result.upper > result.lower).any()


@pytest.mark.full
def test_a_validation_loss_is_measured_every_so_many_steps():
    test = quick(rule="edge", steps=40, monitor="val_loss", validate_every=4, stop_factor=1e9)
    result = test.run(network(), X, Y, validation_data=(X, Y))
    assert len(result.rates) == 10
    np.testing.assert_allclose(result.rates[[0, -1]], np.geomspace(1e-6, 10, 40)[[3, -1]])


def test_any_metric_can_be_watched():
    result = quick(rule="edge", steps=40, monitor="accuracy", mode="max").run(network(), X, Y)
    assert ((result.values >= 0) & (result.values <= 1)).all()


class OwnSGD(keras.optimizers.SGD):
    """An optimizer of one's own."""


def two_outputs(metrics=None, **compiled):
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    outputs = [keras.layers.Dense(1, name="a")(hidden), keras.layers.Dense(1, name="b")(hidden)]
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(), ["mse", "mse"], metrics=metrics, **compiled)
    return model


@pytest.mark.full
@pytest.mark.parametrize(
    ("monitor", "up", "compiled"),
    [
        ("a_mae", False, {"metrics": [["mae"], ["accuracy", "mae"]]}),
        ("b_accuracy", True, {"metrics": {"b": ["mae", "accuracy"]}}),
        ("val_b_r2", True, {"metrics": {"b": [keras.metrics.R2Score(name="r2")]}}),
        ("b_loss", False, {}),
        (
            "b_weighted_accuracy",
            True,
            {"metrics": {"b": "accuracy"}, "weighted_metrics": {"b": "accuracy"}},
        ),
    ],
)
def test_a_metric_of_a_model_just_compiled_knows_its_own_direction(monitor, up, compiled):
    y = [X[:, :1], (X[:, 1:2] > 0).astype("float32")]
    test = quick(monitor=monitor, validate_every=8)
    assert test.run(two_outputs(**compiled), X, y, validation_data=(X, y)).up is up


@pytest.mark.full
def test_losses_of_outputs_are_what_they_would_be_without_a_test():
    """The history of the next fit, and of two fits when the test comes between them."""
    y = {"a": X[:, :1], "b": X[:, 1:2]}

    def history(test, between=False):
        keras.utils.set_random_seed(5)
        model, found = two_outputs(), []
        if test and not between:
            quick(repeats=2, monitor="a_loss").run(model, X, y)
        for _ in range(2):
            keras.utils.set_random_seed(6)
            found.append(model.fit(X, y, epochs=2, verbose=0).history)
            if test and between:
                quick().run(model, X, y)
        return found, sorted(metric.name for metric in model.metrics)

    without = history(test=False)
    assert min(without[0][0]["a_loss"]) > 0.0
    assert history(test=True) == without
    assert history(test=True, between=True) == without


@pytest.mark.full
def test_every_ramp_has_the_losses_of_outputs():
    y = {"a": X[:, :1], "b": X[:, 1:2]}
    results = []
    for repeats in (1, 3):
        keras.utils.set_random_seed(5)
        test = quick(repeats=repeats, monitor="a_loss")
        results.append(test.run(two_outputs(), X, y, batch_size=len(X)))
    alone, three = results
    np.testing.assert_allclose(three.lower[:5], alone.values[:5], rtol=1e-3)
    np.testing.assert_allclose(three.upper[:5], alone.values[:5], rtol=1e-3)


@pytest.mark.full
@pytest.mark.parametrize("kind", [OwnSGD, keras.optimizers.Adam])
def test_the_suggestion_for_a_longer_training_depends_on_the_optimizer(kind):
    result = LRRangeTest(steps=40, budget=120, verbose=0).run(network(kind(0.1)), X, Y)
    share = 10**-0.5 if kind is keras.optimizers.Adam else 10**-0.1
    assert result.suggestion / result.bounds[1] == pytest.approx(share)


@pytest.mark.full
@pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy"])
def test_a_model_just_compiled_can_be_watched_by_run_and_by_fit(monitor):
    arguments = {"validation_data": (X, Y)}
    assert quick(monitor=monitor, validate_every=8).run(network(), X, Y, **arguments).up
    test = quick(monitor=monitor, validate_every=8)
    network().fit(X, Y, verbose=0, callbacks=[test], **arguments)
    assert test.result.up
    assert test.result.monitor == monitor


class Steps(keras.callbacks.Callback):
    """Counts the steps of a training."""

    taken = 0

    def on_train_batch_end(self, batch, logs=None):
        self.taken += 1


def unknown(y, prediction):
    return keras.ops.mean(prediction)


@pytest.mark.full
@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("unknown", "`mode` must be 'min' or 'max'.*monitor='unknown'. Known are: loss, accuracy"),
        ("val_unknown", "`mode` must be 'min' or 'max'.*monitor='val_unknown'"),
        ("acuracy", "`monitor` must name a value.*monitor='acuracy'. Available: .*accuracy"),
        ("val_acuracy", "monitor='val_acuracy'. Known are: loss, accuracy"),
    ],
)
def test_what_has_no_direction_or_no_value_is_said_after_one_step(monitor, message):
    model = network()
    model.compile("sgd", model.loss, metrics=["accuracy", unknown])
    before, steps = model.get_weights(), Steps()
    test = quick(monitor=monitor, validate_every=8)
    with pytest.raises(ValueError, match=message):
        test.run(model, X, Y, validation_data=(X, Y), callbacks=[steps])
    assert steps.taken <= 1
    assert same(before, model.get_weights())


def test_a_value_of_validation_needs_data_for_it():
    with pytest.raises(ValueError, match=r"without `validation_data`.*monitor='val_loss'"):
        quick(monitor="val_loss", validate_every=8).run(network(), X, Y)


def test_a_length_in_epochs_is_that_many_epochs():
    result = quick(rule="edge", steps="2 epochs", stop_factor=1e9).run(
        network(), X, Y, batch_size=16
    )
    assert len(result.rates) == 32


@pytest.mark.full
def test_it_says_nothing_unless_asked(capsys):
    quick().run(network(), X, Y)
    assert capsys.readouterr().out == ""
    result = quick(verbose=1).run(network(), X, Y)
    shown = capsys.readouterr().out
    assert "rate" in shown
    assert shown.endswith(f"{result.report()}\n")


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "most", "trained"),
    [
        ({}, 60, False),
        ({"repeats": 2}, 90, False),
        ({"rule": "edge", "repeats": 2}, 40, False),
        ({"rule": "edge"}, 40, True),
        ({"monitor": "val_loss", "validate_every": 7}, 3, False),
    ],
)
def test_the_progress_bar_knows_the_most_steps_and_ends_full(capsys, arguments, most, trained):
    model = network()
    if trained:
        model.fit(X, Y, verbose=0)
    quick(verbose=1, **arguments).run(model, X, Y, validation_data=(X, Y))
    shown = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    counts = [tuple(map(int, pair)) for pair in re.findall(r"(\d+)/(\d+) ", shown)]
    assert counts[0] == (1, most)
    taken, target = counts[-1]
    assert taken == target <= most
    assert "Unknown" not in shown
    assert "Epoch" not in shown


def test_an_interrupted_progress_bar_stays_where_it_was(capsys):
    with pytest.raises(KeyboardInterrupt):
        quick(verbose=1).run(network(), X, Y, callbacks=[Stop(KeyboardInterrupt())])
    shown = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert re.findall(r"(\d+/\d+) ", shown)[-1] in ("3/60", "4/60")
    assert shown.endswith("\n")


@pytest.mark.full
def test_generators_and_datasets():
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return X[i * 32 : i * 32 + 32], Y[i * 32 : i * 32 + 32]

    def batches():
        while True:
            yield X[:32], Y[:32]

    weights = np.linspace(0, 1, len(X))
    for run in (
        lambda test, model: test.run(model, Data()),
        lambda test, model: test.run(model, batches()),
        lambda test, model: test.run(model, X, Y, sample_weight=weights),
        lambda test, model: test.run(model, X, Y, class_weight={0: 1.0, 1: 2.0, 2: 1.0}),
    ):
        result = run(quick(rule="edge", stop_factor=1e9), network())
        assert len(result.rates) == 20


def finite(batches):
    for _ in range(batches):
        yield X[:32], Y[:32]


@pytest.mark.parametrize(
    ("batches", "arguments", "fit"),
    [
        (8, {"rule": "edge"}, {}),
        pytest.param(8, {"rule": "edge"}, {"steps_per_epoch": 4}, marks=pytest.mark.full),
        (20, {}, {}),
        pytest.param(24, {}, {}, marks=pytest.mark.full),
        (0, {}, {}),
        (8, {"monitor": "val_loss", "validate_every": 4}, {"validation_data": (X, Y)}),
    ],
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_generator_that_ends_is_refused_when_it_has(batches, arguments, fit):
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"argument `x` must be data that can be read again"):
        quick(**arguments).run(model, finite(batches), **fit)
    assert same(before, model.get_weights())


def test_a_generator_that_lasts_as_long_as_the_test_is_taken():
    result = quick(rule="edge", stop_factor=1e9).run(network(), finite(30))
    assert len(result.rates) == 20


def test_no_data_are_an_error():
    for fit in (
        lambda: quick().run(network(), X[:0], Y[:0]),
        lambda: quick().run(network()),
    ):
        with pytest.raises(ValueError, match=r"argument `x` must hold at least one batch.*x="):
            fit()


@pytest.mark.full
def test_callbacks_hear_every_short_training():
    class Count(keras.callbacks.Callback):
        begun = ended = steps = 0

        def on_train_begin(self, logs=None):
            self.begun += 1

        def on_train_end(self, logs=None):
            self.ended += 1

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1

    count = Count()
    result = quick(stop_factor=1e9).run(network(), X, Y, callbacks=count)
    assert count.begun == count.ended >= 3
    assert count.steps == result.found.steps


def test_what_is_no_model_or_acts_in_a_fit_alone_is_refused_by_run():
    x, y = np.zeros((64, 4)), np.zeros((64, 1))
    with pytest.raises(TypeError, match=r"`model` must be a compiled model.*ndarray"):
        LRRangeTest(verbose=0).run(x, y)
    for name, value in {"apply": True, "every": 2, "auto": OneCycle(0.1)}.items():
        with pytest.raises(ValueError, match=rf"`{name}` must be left out for run\(\).*callbacks"):
            LRRangeTest(verbose=0, **{name: value}).run(network(), X, Y)


@pytest.mark.parametrize(
    "driving",
    [
        CosineDecay(0.1),
        ParamScheduler(learning_rate=CosineDecay(0.1)),
        ReduceLROnPlateau("loss"),
        LRRangeTest(),
    ],
)
def test_no_callback_of_a_run_may_drive_the_rate(driving):
    with pytest.raises(ValueError, match="argument `callbacks` must hold none that drives") as seen:
        quick().run(network(), X, Y, callbacks=[LRHistory(), driving])
    assert repr(driving) in str(seen.value)
    assert "LRHistory" not in str(seen.value)


def test_it_finds_a_rate_that_trains():
    model = network(keras.optimizers.SGD(1e-9))
    result = LRRangeTest(verbose=0).run(model, X, Y)
    start = model.evaluate(X, Y, verbose=0)[0]
    model.optimizer.learning_rate = result.suggestion
    model.fit(X, Y, epochs=10, verbose=0)
    assert model.evaluate(X, Y, verbose=0)[0] < 0.6 * start
    base, top = result.bounds
    assert base < result.suggestion <= top
    assert "Suggestion" in result.report()


@pytest.mark.full
def test_the_curve_survives_a_file(tmp_path):
    result = quick(rule="edge", steps=40, repeats=2).run(network(), X, Y)
    result.to_csv(tmp_path / "curve.csv")
    again = RangeTestResult.from_csv(tmp_path / "curve.csv")
    for name in ("rates", "values", "lower", "upper"):
        np.testing.assert_array_equal(getattr(result, name), getattr(again, name))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv is not a curve"):
        RangeTestResult.from_csv(tmp_path / "other.csv")


def test_a_curve_that_was_cut_or_altered_is_refused(tmp_path):
    path = tmp_path / "curve.csv"
    rates = np.geomspace(1e-4, 1.0, 9)
    RangeTestResult.from_curve(rates, 1.0 - rates).to_csv(path)
    whole = path.read_bytes()
    digits = [place for place in range(len(whole)) if whole[place : place + 1] in b"12345678"]
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [whole[:place] + b"9" + whole[place + 1 :] for place in digits]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"curve\.csv is (damaged|not a curve)"):
            RangeTestResult.from_csv(path)


@pytest.mark.full
def test_the_picture_names_what_it_shows():
    axes = quick().run(network(), X, Y).plot()
    below = axes.figure.axes[1]
    assert axes.get_xscale() == below.get_xscale() == "log"
    assert axes.get_xlim() == below.get_xlim()
    assert below.get_xlabel() == "learning rate"
    assert axes.get_ylabel() == "loss"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "smoothed" in labels


LOGS = np.linspace(-6.0, 1.0, 60)
DIP = -0.5 * np.exp(-(((LOGS + 1.0) / 0.6) ** 2)) + np.exp(8.0 * (LOGS - 0.2))


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize(
    "losses",
    [
        1.0 + DIP + 2.0 * np.exp(-(((LOGS + 3.5) / 0.4) ** 2)),
        np.append(1.1, 1.4 + 0.2 * np.sin(np.arange(59) ** 2)),
    ],
    ids=["a hump before the fall", "flat from a low first value"],
)
def test_the_picture_holds_the_smoothed_curve_as_far_as_it_falls(losses, up):
    values = -losses if up else losses
    axes = RangeTestResult.from_curve(10.0**LOGS, values, up=up).plot()
    (line,) = (one for one in axes.lines if one.get_label() == "smoothed")
    smoothed = np.asarray(line.get_ydata())
    best = int((-smoothed if up else smoothed).argmin())
    low, high = axes.get_ylim()
    room = 0.02 * (high - low)
    shown = smoothed[: best + 1] if best else smoothed
    assert low + room < shown.min()
    assert shown.max() < high - room
    assert high - low < 10.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 0.0}, "min_lr=0.0"),
        ({"min_lr": 1.0, "max_lr": 0.5}, "above min_lr"),
        ({"steps": 5}, "steps=5"),
        ({"steps": "5 bananas"}, "bananas"),
        ({"rule": "valey"}, "did you mean 'valley'"),
        ({"stop_factor": 1.0}, "stop_factor"),
        ({"monitor": "val_loss"}, "validate_every"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LRRangeTest(**arguments)


def test_what_the_test_decides_cannot_be_passed():
    with pytest.raises(TypeError, match="epochs"):
        quick().run(network(), X, Y, epochs=3)
    with pytest.raises(TypeError, match="pass `steps` to LRRangeTest instead"):
        quick().run(network(), X, Y, initial_epoch=1)
    with pytest.raises(ValueError, match="not compiled"):
        quick().run(keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]), X, Y)


@pytest.mark.full
def test_a_second_ctrl_c_while_the_model_is_put_back(monkeypatch):
    model = network()
    model.optimizer.build(model.trainable_variables)
    before, restore, calls = state(model), Snapshot.restore, []

    def interrupted(snapshot):
        calls.append(None)
        if len(calls) == 3:  # the first two begin the runs
            restore(snapshot)
            model.layers[0].kernel.assign(np.zeros(model.layers[0].kernel.shape))
            raise KeyboardInterrupt
        restore(snapshot)

    monkeypatch.setattr(Snapshot, "restore", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quick(rule="edge", repeats=2).run(model, X, Y)
    assert len(calls) == 4
    assert same(state(model), before)


@pytest.mark.full
def test_callbacks_of_keras_are_as_they_were_and_others_keep_what_they_saw():
    class Count(keras.callbacks.Callback):
        fits = 0

        def on_train_begin(self, logs=None):
            self.fits += 1

    stopper, count = keras.callbacks.EarlyStopping("loss", patience=99), Count()
    network().fit(X, Y, epochs=2, verbose=0, callbacks=[stopper])
    before = dict(vars(stopper))
    quick().run(network(), X, Y, callbacks=[stopper, count])
    assert vars(stopper) == before
    assert count.fits > 1


@pytest.mark.parametrize(
    "make",
    [
        lambda path: keras.callbacks.ModelCheckpoint(path / "best.keras"),
        lambda path: keras.callbacks.BackupAndRestore(path / "backup"),
        lambda path: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        lambda path: keras.callbacks.ReduceLROnPlateau("loss"),
    ],
)
def test_no_callback_of_a_run_may_write_checkpoints_or_set_the_rate(make, tmp_path):
    callback = make(tmp_path)
    with pytest.raises(ValueError, match=rf"must hold none .*\[{type(callback).__name__}\]"):
        quick().run(network(), X, Y, callbacks=[callback])
    assert not [*tmp_path.iterdir()]


@pytest.mark.full
@pytest.mark.parametrize("rule", ["search", "edge"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_model_that_has_learnt_everything_gets_no_rate(task, rule):
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 2)).astype("float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    if task == "regression":
        x, y, loss, weights = x, x @ np.array([[1.0], [2.0]], "float32"), "mse", [[1.0], [2.0]]
    else:
        x[:, 0] += np.where(x[:, 0] > 0, 1.0, -1.0)
        y, weights = (x[:, :1] > 0).astype("float32"), [[50.0], [0.0]]
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss)
    model.set_weights([np.array(weights, "float32")])
    result = quick(rule=rule, steps=20).run(model, x, y, batch_size=8)
    with pytest.raises(NoSuggestion, match="Nothing is left to learn"):
        _ = result.suggestion
    assert result.confidence == 0.0
    # The same data are worth a test before they are learnt.
    model.set_weights([np.zeros((2, 1), "float32")])
    again = quick(rule=rule, steps=20).run(model, x, y, batch_size=8)
    assert "left to learn" not in again.report()
