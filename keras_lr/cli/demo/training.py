"""The training runs of the demo: a small network, from the same start, under each schedule."""

import sys
import time
from dataclasses import dataclass
from typing import Any

import keras

from keras_lr import (
    Constant,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    InverseSqrtDecay,
    LinearDecay,
    LRHistory,
    LRRangeTest,
    OneCycle,
    RangeTestResult,
    ReduceLROnPlateau,
    StepDecay,
    TriangularCLR,
    WarmupStableDecay,
)
from keras_lr.cli.demo.data import EXTRA, Data, DemoError
from keras_lr.schedules.base import Schedule


@dataclass
class Run:
    """One training run under one schedule."""

    name: str
    callbacks: list[Any]
    accuracy: list[float]
    val_accuracy: list[float]
    seconds: float

    @property
    def history(self) -> LRHistory:
        """The record of every step."""
        return self.callbacks[0].history

    def epochs_to(self, target: float) -> int | None:
        """Return the number of epochs after which the validation accuracy was at `target`."""
        return next((n for n, share in enumerate(self.val_accuracy, 1) if share >= target), None)


def find_rate(data: Data, seed: int = 0) -> RangeTestResult:
    """Run the range test on the network and the training images."""
    keras.utils.set_random_seed(seed)
    model = _compile(build_model(data))
    test = LRRangeTest(min_lr=1e-5, max_lr=10.0, verbose=int(sys.stdout.isatty()))
    return test.run(model, data.x, data.y, batch_size=data.batch_size)


def compared_callbacks(epochs: int, found: RangeTestResult) -> dict[str, list[Any]]:
    """Return the callbacks that the demo compares, the schedule first, at the rates found.

    Constant and falling schedules start at the suggestion; cyclical ones move within the bounds.
    """
    part = round(epochs / 7, 2)
    rate, base, top = (float(f"{value:.3g}") for value in (found.suggestion, *found.bounds))
    compared: dict[str, Schedule] = {
        "Constant": Constant(rate),
        "StepDecay": StepDecay(rate, factor=0.3, every=2 * part),
        "LinearDecay": LinearDecay(rate),
        "ExponentialDecay": ExponentialDecay(rate, factor=0.5, every=part),
        "InverseSqrtDecay": InverseSqrtDecay(rate, timescale=part),
        "CosineDecay with warmup": CosineDecay(rate).warmup(part / 2),
        "CosineRestarts": CosineRestarts(rate, first_cycle=part),
        "TriangularCLR": TriangularCLR(base, top, step_size=part, mode="triangular2"),
        "OneCycle": OneCycle(top),
        "WarmupStableDecay": WarmupStableDecay(rate, warmup="10%", decay="40%"),
    }
    cuts = ReduceLROnPlateau(factor=0.3, patience=max(1, round(part)))
    alone: dict[str, list[Any]] = {name: [schedule] for name, schedule in compared.items()}
    return alone | {"ReduceLROnPlateau": [Constant(rate), cuts]}


def train_each(compared: dict[str, list[Any]], data: Data, epochs: int, seed: int = 0) -> list[Run]:
    """Train once under each schedule, from the same weights and with the same batches."""
    tqdm = _import_tqdm()
    keras.utils.set_random_seed(seed)
    model = build_model(data)
    start = model.get_weights()
    # The first step of a process sets up the backend; no schedule should be charged for that.
    _compile(model).train_on_batch(*next(data.batches(seed)))
    runs = []
    for name, callbacks in tqdm(compared.items(), desc="schedules", unit="run", disable=None):
        model = _compile(keras.models.clone_model(model))
        model.set_weights(start)
        with tqdm(total=epochs, desc=name, unit="epoch", leave=False, disable=None) as bar:
            began = time.perf_counter()
            logs = model.fit(
                data.batches(seed),
                epochs=epochs,
                steps_per_epoch=data.steps_per_epoch,
                validation_data=(data.x_val, data.y_val),
                validation_batch_size=1000,
                callbacks=[*callbacks, _Progress(bar)],
                shuffle=False,
                verbose=0,
            ).history
            seconds = time.perf_counter() - began
        runs.append(Run(name, callbacks, logs["accuracy"], logs["val_accuracy"], seconds))
    return runs


def build_model(data: Data) -> keras.Model:
    """Return a small convolutional network for the images."""
    layers = keras.layers
    stack = [keras.Input(data.x.shape[1:]), layers.Conv2D(16, 3, activation="relu")]
    if data.x.shape[1] > 16:
        stack += [layers.MaxPooling2D(), layers.Conv2D(32, 3, activation="relu")]
    stack += [
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(data.classes, activation="softmax"),
    ]
    return keras.Sequential(stack)


def _compile(model: keras.Model) -> keras.Model:
    """Compile a model and return it."""
    model.compile(
        keras.optimizers.SGD(momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # For a network this small XLA takes longer to compile than it saves; JAX needs it.
        jit_compile=keras.backend.backend() == "jax",
    )
    return model


class _Progress(keras.callbacks.Callback):
    """Callback that advances a progress bar at the end of each epoch."""

    def __init__(self, bar: Any) -> None:
        super().__init__()
        self.bar = bar

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            self.bar.set_postfix_str(f"validation {logs['val_accuracy']:.1%}", refresh=False)
        self.bar.update()


def _import_tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise DemoError(f"The progress bar needs tqdm: {EXTRA}") from error
    return tqdm
