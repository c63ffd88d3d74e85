"""Fits in threads of one process: each has its own rates, and nothing is shared."""

import threading

import keras
import numpy as np
import pytest
from models import fit, meter, samples

from keras_lr import CosineDecay, LinearDecay, LRHistory, LRRangeTest, ParamScheduler

pytestmark = pytest.mark.core

EPOCHS = 2


def run_together(*jobs):
    """Run each job in a thread of its own, all at once, and raise what one of them raised."""
    together, errors = threading.Barrier(len(jobs)), []

    def run(job):
        try:
            together.wait()
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Job:
    """One fit of a model of its own, longer or shorter than the others'."""

    def __init__(self, steps, callback, momentum=0.0):
        self.steps, self.callback = steps, callback
        self.model = meter(steps, keras.optimizers.SGD(1.0, momentum=momentum))

    def __call__(self):
        x, y = samples(self.steps, batch_size=1)
        options = {"batch_size": 1, "shuffle": False, "verbose": 0, "epochs": EPOCHS}
        self.model.fit(x, y, callbacks=[self.callback], **options)

    def moved(self):
        return -self.model.get_weights()[0][:, 0]

    def curve(self, schedule):
        return schedule.values(epochs=EPOCHS, steps_per_epoch=self.steps)


def test_every_fit_has_its_own_rates():
    lengths = [3, 40, 7, 120, 25, 64, 11, 90]
    jobs = [Job(steps, LinearDecay(0.1 * (i + 1))) for i, steps in enumerate(lengths)]
    run_together(*jobs)
    late = Job(150, CosineDecay(0.3))
    late()
    for job in [*jobs, late]:
        curve = job.curve(job.callback)
        np.testing.assert_allclose(job.callback.history.learning_rate, curve, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            job.moved(), curve.reshape(EPOCHS, -1).sum(0), rtol=1e-5, atol=1e-7
        )


def test_every_fit_has_its_own_momentum():
    momenta = [LinearDecay(0.9 - 0.1 * i, 0.1) for i in range(4)]
    jobs = [Job(10 + i, ParamScheduler(momentum=m), 0.5) for i, m in enumerate(momenta)]
    run_together(*jobs)
    for job, schedule in zip(jobs, momenta, strict=True):
        expected, velocity = np.zeros(job.steps), np.zeros(job.steps)
        for step, momentum in enumerate(job.curve(schedule)):
            velocity *= momentum
            velocity[step % job.steps] -= 1.0
            expected += velocity
        np.testing.assert_allclose(job.moved(), -expected, rtol=1e-5)
        assert job.model.optimizer.momentum == 0.5


def test_range_tests_and_records_beside_fits():
    results = {}

    def range_test():
        model, (x, y) = meter(6), samples(6)
        test = LRRangeTest(1e-4, 1.0, steps=20, rule="edge", verbose=0)
        results["rates"] = test.run(model, x, y, batch_size=2).rates
        results["weights"] = model.get_weights()[0]

    schedule = LinearDecay(0.5)
    fits = [Job(30, schedule), Job(20, LRHistory())]
    run_together(*fits, range_test)
    curve = fits[0].curve(schedule)
    np.testing.assert_allclose(schedule.history.learning_rate, curve, rtol=1e-6)
    np.testing.assert_array_equal(fits[1].callback.learning_rate, np.ones(40))
    np.testing.assert_allclose(results["rates"][:5], np.geomspace(1e-4, 1.0, 20)[:5], rtol=1e-6)
    np.testing.assert_array_equal(results["weights"], 0)


def test_an_exception_in_one_thread_ends_that_fit_alone():
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch:
                raise KeyError("stop")

    schedule, model = LinearDecay(0.5), meter(30)

    def stopped():
        with pytest.raises(KeyError, match="stop"):
            fit(model, [CosineDecay(0.1), Stop()], epochs=EPOCHS)

    whole = Job(60, schedule)
    run_together(stopped, whole)
    np.testing.assert_allclose(schedule.history.learning_rate, whole.curve(schedule), rtol=1e-6)
    assert not [name for name in vars(model) if "make_" in name]


@pytest.mark.parametrize("make", [lambda: LinearDecay(0.5), LRHistory], ids=["schedule", "record"])
def test_an_object_in_two_fits_at_once_is_refused_in_one_of_them(make):
    callback, refusals = make(), []
    both = threading.Barrier(2)

    class Waits(keras.callbacks.Callback):
        """Lets no fit go on before both have begun."""

        def on_epoch_begin(self, epoch, logs=None):
            if not refusals:
                both.wait(timeout=60)

    def run(model):
        try:
            fit(model, [callback, Waits()], epochs=EPOCHS)
        except ValueError as error:
            refusals.append(str(error))
            both.abort()
        except threading.BrokenBarrierError:
            pass

    models = [meter(30), meter(30)]
    run_together(*[lambda model=model: run(model) for model in models])
    (refusal,) = refusals
    assert "which still runs" in refusal
    assert "copy.deepcopy(callback)" in refusal
    assert any(not model.get_weights()[0].any() for model in models)
    rates = fit(meter(30), callback, epochs=EPOCHS)  # both are over
    np.testing.assert_allclose(
        rates, callback.history.learning_rate if make is not LRHistory else 1.0
    )
