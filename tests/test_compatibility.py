"""What version 0.1.0 wrote is read as it was meant: pickles, state files, configs, models."""

import json
import pickle
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lr as lr
import keras_lr.plotting

OLD = Path(__file__).parent / "data" / "0.1.0"
EXPECTED = json.loads((OLD / "expected.json").read_text())

pytestmark = pytest.mark.core


def read(name):
    return pickle.loads((OLD / f"{name}.pickle").read_bytes())


def net():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model


def data(rows=64):
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


def test_pickled_schedules_have_the_same_curves():
    schedules = read("schedules")
    assert len(schedules) == len(EXPECTED["values"])
    for one, values in zip(schedules, EXPECTED["values"].values(), strict=True):
        # A schedule of Keras computes in the float32 of the backend, and cancels near its end.
        atol = np.finfo(np.float32).eps * max(values) if isinstance(one, lr.Function) else 0.0
        np.testing.assert_allclose(one.values(**EXPECTED["size"]), values, rtol=0.0, atol=atol)


def test_serialized_schedules_are_built_again():
    written = json.loads((OLD / "serialized.json").read_text())
    assert [keras.saving.deserialize_keras_object(one) for one in written] == read("schedules")


def test_a_pickled_schedule_brings_its_record():
    rate = read("fitted")
    np.testing.assert_allclose(rate.history.learning_rate, EXPECTED["fitted_rates"], rtol=1e-7)


def test_other_pickles_are_what_they_were():
    assert read("params").schedules["momentum"] == lr.LinearDecay(0.95, 0.85)
    assert read("timeline") == lr.Timeline(8, 3)
    assert read("in_graph") == lr.CosineDecay(0.1).in_graph(**EXPECTED["size"])
    assert read("plateau").state_dict() == EXPECTED["plateau_state"]
    assert read("result").suggestion == EXPECTED["suggestion"]
    outcomes = json.dumps(read("range_test").state_dict())
    assert json.loads(outcomes) == EXPECTED["outcomes"]
    assert isinstance(read("state_error"), lr.StateError)
    assert isinstance(read("no_suggestion"), lr.NoSuggestion)


def test_records_are_read():
    from_csv = lr.LRHistory.from_csv(OLD / "history.csv")
    assert from_csv == read("history")
    assert len(from_csv) == 24
    result = lr.RangeTestResult.from_csv(OLD / "range.csv")
    np.testing.assert_array_equal(result.rates, read("result").rates)
    found = lr.RangeTestResult.from_dict(json.loads((OLD / "range_result.json").read_text()))
    assert found.suggestion == EXPECTED["suggestion"]


@pytest.mark.parametrize("ending", ["yaml", "toml", "json"])
def test_configs_are_read(ending):
    assert lr.load(OLD / f"callbacks.{ending}") == [lr.Constant(0.1), lr.ReduceLROnPlateau("loss")]


def test_a_fit_goes_on_from_the_state_of_a_plateau(tmp_path):
    for path in OLD.glob("plateau.json*"):
        shutil.copy(path, tmp_path)
    cut = lr.ReduceLROnPlateau(
        *("loss", 0.5, 1),
        mode="max",
        state_path=tmp_path / "plateau.json",
        restore_best_weights=True,
    )
    x, y = data()
    logs = (
        net().fit(x, y, batch_size=8, initial_epoch=3, epochs=4, verbose=0, callbacks=[cut]).history
    )
    assert logs["learning_rate"] == pytest.approx([EXPECTED["plateau_state"]["rates"][0]])


def test_a_fit_goes_on_from_the_state_of_a_range_test(tmp_path):
    shutil.copy(OLD / "range.json", tmp_path)
    test = lr.LRRangeTest(
        steps=40, budget=120, verbose=0, apply=True, state_path=tmp_path / "range.json"
    )
    x, y = data(512)
    net().fit(x, y, batch_size=16, initial_epoch=1, epochs=2, verbose=0, callbacks=[test])
    assert test.result.suggestion == EXPECTED["suggestion"]


def test_a_record_goes_on_from_its_file(tmp_path):
    shutil.copy(OLD / "history.npz", tmp_path)
    history = lr.LRHistory(state_path=tmp_path / "history.npz")
    x, y = data()
    net().fit(x, y, batch_size=8, initial_epoch=3, epochs=4, verbose=0, callbacks=[history])
    np.testing.assert_array_equal(history.learning_rate[:24], read("history").learning_rate)
    assert len(history) == 32


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the model was saved on TensorFlow"
)
def test_a_model_that_holds_a_curve_is_loaded():
    model = keras.saving.load_model(OLD / "in_graph.keras")
    rate = lr.CosineDecay(0.1).warmup(1)
    assert int(model.optimizer.iterations) == 2
    np.testing.assert_allclose(
        float(model.optimizer.learning_rate), rate.values(**EXPECTED["size"])[2], rtol=1e-6
    )


def test_plotting_offers_what_it_did():
    functions = ["close", "gallery", "plot_curves", "plot_panels", "sparkline"]
    parts = ["count_along", "new_axes", "new_figure", "scale_rates", "title_above"]
    for name in functions + parts:
        assert callable(getattr(lr.plotting, name)), name
    assert lr.plotting.BLUE == "#0072b2"
    assert lr.plotting.COLORS[0] == lr.plotting.BLUE
    for name in ("DARK_BLUE", "FAINT", "INK", "ORANGE"):
        assert re.fullmatch("#[0-9a-f]{6}", getattr(lr.plotting, name)), name
    assert lr.plotting.STYLES[0] == "-"
    with pytest.raises(AttributeError, match=r"keras_lr\.plotting. has no attribute .blue"):
        lr.plotting.blue  # noqa: B018
