"""Measure what a callback costs per training step, on the backend of ``KERAS_BACKEND``.

    KERAS_BACKEND=jax python -m benchmarks.fits [--small] [--pairs N] [--json FILE]

The model is a dense network of 64, 32 and 10 units at batch size 32. It does so little work that
overhead shows as much as it can. Measured is the time from the start to the end of each epoch, by a
callback without batch hooks that stands first and last in the list of both runs of a pair.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.measure import Effort, Row, main, pairs
from keras_lr import CosineDecay, LRHistory, ReduceLROnPlateau
from keras_lr.range_test.ramp import Ramp

BACKEND = keras.backend.backend()
BATCH = 32
RATE = 0.01
BARE = "fit without Keras's empty hooks"

Callbacks = Callable[[], list[keras.callbacks.Callback]]


# What other callbacks do, each written as briefly as possible.


class Plain(keras.callbacks.Callback):
    """Assigns the rate at the start of each batch."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.step = 0

    def rate(self) -> float:
        return RATE * (1.0 + np.cos(np.pi * self.step / self.steps)) / 2.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = self.rate()
        self.step += 1


class ReadBack(Plain):
    """Does what CLR callbacks do: after each batch read the rate, append everything, assign."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.history: dict[str, list[Any]] = {}

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.history.setdefault("learning_rate", []).append(rate)
        self.history.setdefault("step", []).append(self.step)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.optimizer.learning_rate = self.rate()


class Scheduler(Plain):
    """Does in each batch what Keras's ``LearningRateScheduler`` does in each epoch."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        super().on_train_batch_begin(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        rate = self.model.optimizer.learning_rate
        (logs or {})["learning_rate"] = float(keras.ops.convert_to_numpy(rate))


class Shortest(keras.callbacks.Callback):
    """The least that a callback on PyTorch can do to set and record a rate in each step.

    It writes precomputed rates into the optimizer's tensor, and keeps the losses that it gets.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.rates = CosineDecay(RATE).values(epochs=1, steps_per_epoch=steps).tolist()
        self.losses: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.fill = self.model.optimizer._learning_rate._value.fill_

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.fill(self.rates[batch])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append((logs or {})["loss"])


class EmptyHook(keras.callbacks.Callback):
    """Overrides a batch hook, so that Keras calls hooks in step on JAX and PyTorch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


class EmptyAsyncHook(EmptyHook):
    """Lets Keras call the hooks late."""

    async_safe = True


class Unheard(keras.callbacks.CallbackList):
    """Skips the batch hooks, as Keras could if no callback has one."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


class Clock(keras.callbacks.Callback):
    """Adds up the time of the epochs; it stands first in the list, and `last` stands last."""

    def __init__(self) -> None:
        super().__init__()
        self.wall = self.cpu = 0.0
        self.last = keras.callbacks.LambdaCallback(on_epoch_end=self.stop)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begun = time.perf_counter(), time.process_time()

    def stop(self, epoch: int, logs: Any = None) -> None:
        self.wall += time.perf_counter() - self.begun[0]
        self.cpu += time.process_time() - self.begun[1]


@dataclasses.dataclass
class Size:
    """How much to train: runs of a quarter to half a second, for 10 to 25 minutes in all."""

    steps: int
    pairs: int
    peers: int
    epochs: int = 1

    @classmethod
    def of(cls, effort: Effort) -> Size:
        """Return the size for an effort."""
        steps, runs, peers = {
            "tensorflow": (200, 101, 31),
            "jax": (1000, 51, 15),
            "torch": (200, 41, 15),
        }[BACKEND]
        return cls(8 if effort.small else steps, effort.pairs(runs), effort.pairs(peers))

    @property
    def total(self) -> int:
        return self.steps * self.epochs


class Fits:
    """Times fits of one model."""

    def __init__(self, size: Size) -> None:
        self.size = size
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(BATCH * size.steps, 64)).astype("float32")
        self.y = rng.integers(0, 10, BATCH * size.steps)
        self.model = self.build(RATE)

    def build(self, rate: Any) -> keras.Model:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(32, "relu"), keras.layers.Dense(10)]
        model = keras.Sequential([keras.Input((64,)), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(rate), loss)
        return model

    def run(
        self, callbacks: Callbacks, model: keras.Model | None = None, bare: bool = False
    ) -> tuple[float, float]:
        clock, model = Clock(), model or self.model
        group: Any = [clock, *callbacks(), clock.last]
        if bare:
            group = Unheard(group, add_history=True, model=model, epochs=self.size.epochs)
        model.fit(
            self.x,
            self.y,
            batch_size=BATCH,
            epochs=self.size.epochs,
            verbose=0,
            shuffle=False,
            callbacks=group,
        )
        return clock.wall, clock.cpu

    def row(
        self,
        what: str,
        new: Callbacks,
        goal: float | None = None,
        *,
        old: Callbacks = list,
        against: str = "fit without callbacks",
        bare: bool = False,
        model: keras.Model | None = None,
        count: int | None = None,
    ) -> Row:
        if bare:
            against = BARE
        a = functools.partial(self.run, new, model)
        b = functools.partial(self.run, old, bare=bare)
        a(), b()
        ratios, cpu = pairs(a, b, count or self.size.pairs)
        return Row(what, against, ratios, cpu, goal, backend=BACKEND)


def less(peer: Row, ours: Row, what: str) -> Row:
    """Return how many times less overhead ``ours`` has than ``peer``.

    An overhead below the standard error of its median counts as that error.
    """
    overhead = max(ours.median - 1.0, ours.error, 1e-4)
    return Row(
        what, peer.what, [(peer.median - 1.0) / overhead], [], 10.0, least=True, backend=BACKEND
    )


def measured(size: Size) -> list[Row]:
    """Measure everything at a size."""
    fits = Fits(size)
    total = size.total
    goal = {
        "tensorflow": {"step": 1.02, "hook": None, "host": 1.05, "graph": 1.02},
        "jax": {"step": 1.05, "hook": 1.05, "host": 1.10, "graph": 1.02},
        "torch": {"step": 1.02, "hook": None, "host": None, "graph": None},
    }[BACKEND]
    in_graph = CosineDecay(RATE).in_graph(epochs=size.epochs, steps_per_epoch=size.steps)
    compiled = fits.build(in_graph)
    keras_decay = keras.optimizers.schedules.CosineDecay(RATE, total)
    patience = f"{total} steps"

    def schedule() -> list[keras.callbacks.Callback]:
        return [CosineDecay(RATE)]

    def plateau() -> list[keras.callbacks.Callback]:
        return [ReduceLROnPlateau(monitor="loss", patience=patience)]

    def hook() -> list[keras.callbacks.Callback]:
        return [EmptyHook()]

    def late() -> list[keras.callbacks.Callback]:
        return [EmptyAsyncHook()]

    rows = [
        fits.row("nothing: the noise of what follows", list),
        fits.row("schedule, with its recorder", schedule, goal["step"]),
        fits.row(
            "schedule, with its recorder",
            schedule,
            goal["hook"],
            old=hook,
            against="fit with an empty batch-end hook",
        ),
        fits.row(
            "schedule, with its recorder",
            schedule,
            goal["hook"],
            old=late,
            against="fit with an empty asynchronous hook",
        ),
        fits.row(
            "schedule and an empty batch-end hook",
            lambda: hook() + schedule(),
            goal["step"],
            old=hook,
            against="fit with an empty batch-end hook",
        ),
        fits.row(
            "schedule and an empty asynchronous hook",
            lambda: late() + schedule(),
            goal["step"],
            old=late,
            against="fit with an empty asynchronous hook",
        ),
        fits.row("schedule.per_epoch()", lambda: [CosineDecay(RATE).per_epoch()], 1.01),
        fits.row(
            "schedule.in_graph(), with a recorder",
            lambda: [LRHistory()],
            goal["graph"],
            model=compiled,
        ),
        fits.row("LRHistory alone, loss per batch", lambda: [LRHistory()], 1.03),
        fits.row("plateau, patience in steps", plateau, goal["host"]),
        fits.row("plateau in steps on a schedule", lambda: schedule() + plateau(), goal["host"]),
        fits.row(
            "ramp of a range test",
            lambda: [Ramp(np.geomspace(1e-6, RATE, total))],
            goal["host"],
        ),
    ]
    ways: dict[str, Callbacks] = {
        "empty batch-end hook": hook,
        "empty asynchronous batch-end hook": late,
        "assignment in on_train_batch_begin": lambda: [Plain(total)],
        "a CLR callback's way": lambda: [ReadBack(total)],
        "LearningRateScheduler's way, per step": lambda: [Scheduler(total)],
        "Keras's LearningRateScheduler, per epoch": lambda: [
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate)
        ],
    }
    peers = [fits.row(what, way, count=size.peers) for what, way in ways.items()]
    # The overhead is what comes on top of the training itself, without calls of empty hooks.
    ours = fits.row("schedule, with its recorder", schedule, bare=True)
    named = ("a CLR callback's way", "LearningRateScheduler's way, per step")
    added = [fits.row(what, ways[what], bare=True, count=size.peers) for what in named]
    overheads = [less(peer, ours, "schedule: times less overhead than") for peer in added]
    if BACKEND == "torch":
        added.append(fits.row("the least a callback can do", lambda: [Shortest(total)], bare=True))
    in_optimizer = fits.row(
        "Keras's CosineDecay in the optimizer",
        list,
        model=fits.build(keras_decay),
        count=size.peers,
    )
    return [*rows, ours, *added, *overheads, *peers, in_optimizer]


def rows(effort: Effort) -> list[Row]:
    return measured(Size.of(effort))


if __name__ == "__main__":
    main(rows, __doc__)
