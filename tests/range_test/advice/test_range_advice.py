"""Rates for a run of some length and schedule: what they depend on, and how sure they are."""

import dataclasses
import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lr import (
    CosineDecay,
    Function,
    LinearDecay,
    NoSuggestion,
    OneCycle,
    RangeTestResult,
    Sequence,
    StepDecay,
    TriangularCLR,
)
from keras_lr.range_test.advice import Conditions, extrapolation
from keras_lr.range_test.advice.conditions import step_size_of
from keras_lr.range_test.advice.extrapolation import Drift
from keras_lr.range_test.search import SearchResult

pytestmark = pytest.mark.core

OLD = Path(__file__).parents[2] / "data" / "0.1.0" / "range_result.json"
OPTIMIZERS = {
    "gradient": keras.optimizers.SGD,
    "fixed": keras.optimizers.Adam,
    "fading": keras.optimizers.Adagrad,
}


def result(kind="fixed", batches=None, per_epoch=None, best=0.01, agreement=1.0, **more):
    """Return a result whose short runs of 60 steps ended lowest at a rate."""
    ramp = np.geomspace(1e-6, 1.0, 60)
    found = SearchResult(
        suggestion=best / 2.0,
        bounds=(best / 10.0, best),
        confidence=agreement,
        report="Sixty steps.",
        rates=ramp,
        losses=np.ones(60),
        holds={rate: np.ones(60) for rate in (best / 3.0, best, 3.0 * best)},
        steps=240,
    )
    conditions = Conditions(kind, batches, per_epoch, **more)
    return RangeTestResult.from_curve(ramp, np.ones(60), found=found, conditions=conditions)


@pytest.fixture
def drift(monkeypatch):
    """Round numbers in place of the measured ones."""

    def use(**numbers):
        none = dict.fromkeys((field.name for field in dataclasses.fields(Drift)), 0.0)
        spread = numbers.pop("spread", 1.0)
        one = Drift(**none | numbers)
        monkeypatch.setattr(extrapolation, "SPREADS", (spread, 0.0, 0.0, 0.0))
        monkeypatch.setattr(extrapolation, "DRIFTS", dict.fromkeys(OPTIMIZERS, one))

    return use


# What the rate depends on -------------------------------------------------------------------------


def test_the_length(drift):
    drift(offset=-1.0, per_decade=-0.5)
    # As long as the runs would be a tenth; 100 times as long is a tenth of that.
    assert result().suggest(steps=6000) == pytest.approx(0.01 * 0.1 * 0.1)


def test_lengths_beyond_those_measured(drift):
    drift(per_decade=-1.0)
    # 100 to 3,000 steps were measured: 100 is the least that counts, ten times 3,000 the most.
    assert result().suggest(steps=1) == pytest.approx(0.01 * 0.6)
    assert result().suggest(steps=30_000) == pytest.approx(0.01 / 500)
    assert result().suggest(steps=10**9) == pytest.approx(0.01 / 500)


def test_the_schedule(drift):
    drift(decay=1.0)
    found = result()
    assert found.suggest(steps=1000) == pytest.approx(0.01)
    assert found.suggest(steps=1000, schedule=CosineDecay) == pytest.approx(0.1, rel=0.01)
    # A fall to half has a mean of three quarters: half of what a fall to zero changes.
    half = LinearDecay(1.0, 0.5)
    assert found.suggest(steps=1000, schedule=half) == pytest.approx(0.01 * 10**0.5, rel=0.01)
    # No schedule moves the rate further than a fall to zero.
    early = StepDecay(1.0, factor=0.001, every="10 steps")
    assert found.suggest(steps=1000, schedule=early) == pytest.approx(0.1)


def test_ten_passes_over_the_data_are_no_repeat(drift):
    drift(per_repeat=-1.0)
    assert result(batches=100).suggest(steps=1000) == pytest.approx(0.01)
    assert result(batches=10).suggest(steps=1000) == pytest.approx(0.001)
    assert result(batches=None).suggest(steps=1000) == pytest.approx(0.01)


def test_fewer_batches_than_were_measured_count_as_the_fewest_that_were(drift):
    drift(per_repeat=-1.0)
    # Eight: 800 steps are a hundred passes over them.
    for batches in (1, 8):
        assert result(batches=batches).suggest(steps=800) == pytest.approx(0.001)


def test_what_was_measured():
    for kind in OPTIMIZERS:
        found = result(kind, batches=20)
        constant, longer = found.suggest(steps=1000), found.suggest(steps=3000)
        assert longer < constant < found.suggest(steps=1000, schedule=OneCycle)
        assert 0.0 < found.advise(steps=3000).confidence < found.advise(steps=100).confidence < 1.0
    falls = {
        kind: result(kind).suggest(steps=100) / result(kind).suggest(steps=3000)
        for kind in OPTIMIZERS
    }
    assert falls["gradient"] < falls["fixed"]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_kind_of_the_optimizer(kind):
    plain = OPTIMIZERS[kind]()
    assert step_size_of([plain]) == kind
    assert step_size_of([keras.optimizers.LossScaleOptimizer(OPTIMIZERS[kind]())]) == kind


def test_longer_runs_are_read_after_as_many_steps_as_those_that_were_measured(drift):
    drift(per_decade=-1.0)
    found = result()
    longer = dataclasses.replace(found.found, early_best=0.02)
    # Six hundred steps are ten times the sixty after which 0.02 was best, whatever came later.
    assert dataclasses.replace(found, found=longer).suggest(steps=600) == pytest.approx(0.002)


# How it is asked for ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [CosineDecay, CosineDecay(0.3), "CosineDecay", "cosinedecay", LinearDecay, OneCycle],
)
def test_a_schedule_is_an_object_a_class_or_a_name(schedule, drift):
    drift(decay=1.0)
    assert result().suggest(steps=2000, schedule=schedule) == pytest.approx(0.1, rel=0.03)


def test_epochs_are_those_of_the_data():
    found = result(per_epoch=50)
    assert found.suggest(epochs=20) == found.suggest(steps=1000)
    assert found.advise(epochs=20).training.steps == 1000
    cycle = TriangularCLR(0.1, 1.0, step_size=2)
    assert found.advise(epochs=8, schedule=cycle).training.mean == pytest.approx(0.55, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"steps": 0}, "`steps` must be a whole number of at least 1. Received: steps=0"),
        ({"steps": 1.5}, "`steps` must be a whole number"),
        ({"epochs": 0}, "`epochs` must be a finite number above 0"),
        ({"epochs": math.nan}, "`epochs` must be a finite number above 0"),
        ({"epochs": 3}, "which the data of the test did not say. Pass steps="),
        ({"steps": 10, "epochs": 1}, "Pass one length"),
        ({"schedule": CosineDecay}, "Pass the length of the training"),
        ({"steps": 10, "schedule": "CosinDecay"}, "Did you mean 'CosineDecay'?"),
        ({"steps": 10, "schedule": "one-cycle"}, "Did you mean 'OneCycle'?"),
        ({"steps": 10, "schedule": "Sequence"}, "Sequence needs `stages`"),
        ({"steps": 10, "schedule": Sequence}, "Sequence needs `stages`"),
        ({"steps": 10, "schedule": StepDecay(0.1, every=1)}, "Give its lengths in steps"),
        ({"steps": 10, "rule": "edge"}, "`rule` reads the ramp alone"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments, says):
    with pytest.raises(ValueError, match=r"(?s).*") as error:
        result().suggest(**arguments)
    assert says in str(error.value)


def test_a_schedule_without_a_rate_is_refused():
    with pytest.raises(ValueError, match="must have a rate above zero in the training"):
        result(per_epoch=5).suggest(epochs=2, schedule=Function(lambda epoch: 0.0))


@pytest.mark.parametrize("schedule", [3, keras.optimizers.SGD, None.__class__])
def test_what_is_no_schedule_is_refused(schedule):
    with pytest.raises(TypeError, match="must be a schedule, its class"):
        result().suggest(steps=10, schedule=schedule)


def test_a_rate_that_was_never_tried_is_marked(drift):
    assert "outside" not in result().report()
    drift(per_decade=-2.0)
    found = result(best=0.001)
    assert not found.advise(steps=100).is_outside
    assert found.advise(steps=6000).rate == pytest.approx(1e-7)
    assert found.advise(steps=6000).is_outside
    assert "* is outside of those that were tested" in found.report()


def test_the_report_has_a_table_for_one_length_and_ten_times_that(drift):
    drift(per_decade=-1.0, decay=1.0)
    lines = result().report().splitlines()
    assert lines[0] == "Sixty steps."
    start = next(i for i, line in enumerate(lines) if line.startswith("Highest rate"))
    assert lines[start].endswith("1,000 steps         10,000 steps")
    rates = [[float(word) for word in line.split()[1::2]] for line in lines[start + 1 : start + 4]]
    # 1,000 steps are 16.7 runs; the highest rate of the schedules is ten times that of a constant.
    np.testing.assert_allclose(
        rates, 0.01 * 0.06 * np.array([[1.0, 0.1], [10, 1], [10, 1]]), rtol=0.05
    )
    assert "Beyond 3,000 steps nothing was measured" in result().report()


# How sure it is -----------------------------------------------------------------------------------


def test_the_confidence_is_the_chance_of_a_factor_of_two(drift):
    # Of a normal distribution 68.27 % lie within one standard deviation, 38.29 % within half of it.
    drift(spread=math.log10(2.0))
    assert result().advise(steps=100).confidence == pytest.approx(0.6827, abs=1e-4)
    drift(spread=2.0 * math.log10(2.0))
    assert result().advise(steps=100).confidence == pytest.approx(0.3829, abs=1e-4)


def test_the_confidence_in_a_suggestion_that_is_off(drift):
    # The suggestion, half of the best rate, is one standard deviation off: what lies within one of
    # it is between 0 and 2 standard deviations.
    drift(spread=math.log10(2.0))
    assert result().confidence == pytest.approx(0.4772, abs=1e-4)


def test_the_parts_of_the_spread_add_as_independent_errors_do(monkeypatch):
    # 1, and 2 for ten times the length, 2 for an unsure test, 4 for batch normalization: 5 in all.
    monkeypatch.setattr(extrapolation, "SPREADS", (1.0, 2.0, 2.0, 4.0))
    found = result(agreement=0.5, batch_norm=True)
    expected = math.erf(math.log10(2.0) / (5.0 * math.sqrt(2.0)))
    assert found.advise(steps=600).confidence == pytest.approx(expected)


def test_a_test_that_is_unsure_is_less_sure_of_any_training():
    assert result(agreement=0.5).confidence < result().confidence


def test_few_rows_with_batch_normalization_say_that_the_rate_is_doubtful():
    few, enough = (result(batch_size=rows, batch_norm=True) for rows in (4, 8))
    assert few.advise(steps=1000).confidence < enough.advise(steps=1000).confidence
    assert few.confidence < enough.confidence < result().confidence
    assert "Batches of 4 with batch normalization" in few.report()
    assert "with batch normalization" not in enough.report()
    plain = result(batch_size=4)
    assert plain.confidence == result().confidence
    assert "with batch normalization" not in plain.report()


def test_fewer_batches_than_were_measured_are_named():
    assert "The data have 3 batches" in result(batches=3).report()
    assert "batches" not in result(batches=8).report()


# Which training the suggestion is for -------------------------------------------------------------


def test_without_arguments_suggest_is_the_suggestion():
    found = result()
    assert found.suggest() == found.suggestion == 0.005
    known = dataclasses.replace(found, training=found.advise(steps=500).training)
    assert known.suggest() == known.suggestion == known.suggest(steps=500)


def test_the_report_says_which_training_the_suggestion_is_for():
    found = result()
    assert "Suggestion if the length is not known: 5.0e-03; for a cycle: 1.0e-03 to 1.0e-02." in (
        found.report()
    )
    training = found.advise(steps=500, schedule=CosineDecay).training
    known = dataclasses.replace(found, training=training)
    low, high = known.bounds
    assert high == known.suggestion
    assert known.report().splitlines()[1] == (
        f"Suggestion for the training to come, 500 steps of CosineDecay: {high:.1e}; for a cycle: "
        f"{low:.1e} to {high:.1e}."
    )


def test_the_report_says_where_noise_hides_the_lower_bound():
    found = result()
    assert "Noise" not in found.report()
    noisy = dataclasses.replace(found.found, bounds=(9e-5, 0.01))
    report = dataclasses.replace(found, found=noisy).report()
    assert report.splitlines()[2].endswith("Rather begin the cycle at 2.5e-03.")


# Where there is none ------------------------------------------------------------------------------


def test_a_result_of_an_older_version_says_that_it_cannot_tell():
    old = RangeTestResult.from_dict(json.loads(OLD.read_text()))
    assert old.suggestion == pytest.approx(0.0046033, rel=1e-4)
    assert old.confidence == 0.5
    assert "Highest rate for" not in old.report()
    with pytest.raises(ValueError, match=r"of 0\.1\.0 .* Run the test again"):
        old.suggest(steps=1000)


def test_a_rule_that_reads_the_ramp_cannot_tell():
    rates = np.geomspace(1e-6, 1e1, 141)
    curve = RangeTestResult.from_curve(rates, (np.log10(rates) + 2.0) ** 2)
    with pytest.raises(ValueError, match=r"needs the short runs.*a curve alone does not"):
        curve.advise(epochs=3)
    ramp = dataclasses.replace(result(), found=None, rule="edge")
    with pytest.raises(ValueError, match=r"rule='edge' reads the ramp alone.*rule='search'"):
        ramp.suggest(epochs=3)


def test_a_model_that_was_trained_before_has_no_rate_for_a_length():
    found = result(trained=True)
    assert found.suggestion == 0.005
    assert found.confidence == 1.0
    with pytest.raises(NoSuggestion, match="the model was trained before the test"):
        found.suggest(steps=1000)
    assert "Highest rate for" not in found.report()


def test_no_suggestion_is_none_for_any_training():
    failed = dataclasses.replace(result(), reason="Nothing was learnt.")
    with pytest.raises(NoSuggestion, match="Nothing was learnt"):
        failed.suggest(steps=1000)
