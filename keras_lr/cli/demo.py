"""The demo: one small network and one data set under a fixed rate and under many schedules."""

import gzip
import re
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

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
from keras_lr.schedules.base import Schedule

Images = NDArray[np.float32]
Labels = NDArray[np.uint8]

EXTRA = "pip install 'keras-lr[demo]'"
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "validation": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class DemoError(Exception):
    """Something outside the program is missing or broken; the message says what to do."""


@dataclass
class Data:
    """Images with values from 0 to 1, and what the demo asks of them."""

    x: Images
    y: Labels
    x_val: Images
    y_val: Labels
    source: str
    batch_size: int
    target: float
    """Validation accuracy that the table times."""

    def batches(self, seed: int) -> Iterator[tuple[Images, Labels]]:
        """Yield batches without end; the order depends on the seed and the epoch alone."""
        epoch = 0
        while True:
            order = np.random.default_rng([seed, epoch]).permutation(len(self.x))
            for start in range(0, len(order), self.batch_size):
                chosen = order[start : start + self.batch_size]
                yield self.x[chosen], self.y[chosen]
            epoch += 1

    @property
    def classes(self) -> int:
        """Number of different labels, which count from 0."""
        return int(max(self.y.max(), self.y_val.max())) + 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, a short last one included."""
        return -(-len(self.x) // self.batch_size)


@dataclass
class Run:
    """One training under one schedule."""

    name: str
    callbacks: list[Any]
    accuracy: list[float]
    val_accuracy: list[float]
    seconds: float

    @property
    def history(self) -> LRHistory:
        """What every step used."""
        return self.callbacks[0].history

    def epochs_to(self, target: float) -> int | None:
        """Return the number of epochs after which the validation accuracy was at `target`."""
        return next((n for n, share in enumerate(self.val_accuracy, 1) if share >= target), None)


def main(
    data: str = "digits",
    data_dir: Path | None = None,
    epochs: int = 14,
    out: Path = Path("keras_lr_demo"),
    seed: int = 0,
    train_size: int | None = None,
) -> list[Run]:
    """Find a rate, train under every schedule at it, print a table, write pictures and records.

    Args:
        data: `"digits"` (from scikit-learn) or `"fashion-mnist"`.
        data_dir: Folder with the IDX files of Fashion-MNIST; by default Keras gets them.
        epochs: Epochs of each training.
        out: Folder to write to; made if it is missing.
        seed: Decides the split, the initial weights and the order of the batches.
        train_size: Number of training images to use; all by default.

    Returns:
        What each training gave.

    Raises:
        DemoError: If a package, a file or a network is missing, or a file is broken.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"Cannot write to the folder {out}: {error}") from error
    from keras_lr import plotting

    loaded = load(data, data_dir, seed, train_size)
    print(
        f"{loaded.source}: {len(loaded.x):,} training and {len(loaded.x_val):,} validation images, "
        f"{epochs} epochs of {loaded.steps_per_epoch} steps for each schedule"
    )
    print("\nLearning-rate range test:")
    found = find(loaded, seed)
    # Where the test shows its progress it says this itself.
    print("" if sys.stdout.isatty() else f"{found.report()}\n")
    runs = train(schedules(epochs, found), loaded, epochs, seed)
    report = f"{table(runs, loaded.target)}\n\n{caution(runs, len(loaded.x_val))}"
    print(f"\n{report}\n")
    (out / "results.txt").write_text(report + "\n", encoding="utf-8")
    draw(runs, loaded, epochs, out)
    plotting.close(found.plot().figure, out / "range-test.png")
    print(f"Pictures and the record of every step: {out}")
    return runs


def find(data: Data, seed: int = 0) -> RangeTestResult:
    """Run the range test on the network and the training images."""
    keras.utils.set_random_seed(seed)
    model = _compiled(build(data))
    test = LRRangeTest(min_lr=1e-5, max_lr=10.0, verbose=int(sys.stdout.isatty()))
    return test.run(model, data.x, data.y, batch_size=data.batch_size)


def schedules(epochs: int, found: RangeTestResult) -> dict[str, list[Any]]:
    """Return the callbacks that the demo compares, the schedule first, at the rates found.

    What holds or falls starts at the suggestion; what cycles moves within the bounds.
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


def train(compared: dict[str, list[Any]], data: Data, epochs: int, seed: int = 0) -> list[Run]:
    """Train once under each schedule, from the same weights and with the same batches."""
    tqdm = _tqdm()
    keras.utils.set_random_seed(seed)
    model = build(data)
    start = model.get_weights()
    # The first step of a process sets up the backend; no schedule should be charged for that.
    _compiled(model).train_on_batch(*next(data.batches(seed)))
    runs = []
    for name, callbacks in tqdm(compared.items(), desc="schedules", unit="run", disable=None):
        model = _compiled(keras.models.clone_model(model))
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


def build(data: Data) -> keras.Model:
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


def table(runs: list[Run], target: float) -> str:
    """Return the results as aligned text."""
    head = ("schedule", "rate", f"epochs to {target:.0%}", "final val. accuracy", "seconds")
    rows = [head]
    for run in runs:
        rate = run.history.learning_rate
        low, high = f"{rate.min():.2g}", f"{rate.max():.2g}"
        reached = run.epochs_to(target)
        rows.append(
            (
                run.name,
                high if low == high else f"{low} to {high}",
                "not reached" if reached is None else str(reached),
                f"{run.val_accuracy[-1]:.1%}",
                f"{run.seconds:.1f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def caution(runs: list[Run], images: int) -> str:
    """Return how far accuracies measured on so many images may differ by chance."""
    share = float(np.median([run.val_accuracy[-1] for run in runs]))
    error = 2 * (share * (1 - share) / images) ** 0.5
    return (
        f"Each schedule was tried once. On {images:,} images an accuracy near {share:.1%} is known "
        f"to within {100 * error:.1f} points (two standard errors)."
    )


def draw(runs: list[Run], data: Data, epochs: int, out: Path) -> None:
    """Write the gallery of curves, and for each run a picture and its record as CSV."""
    from keras_lr import plotting
    from keras_lr.history.plot import plot_run

    steps = data.steps_per_epoch
    curves = {
        run.name: run.callbacks[0].values(epochs=epochs, steps_per_epoch=steps)
        for run in runs
        if len(run.callbacks) == 1
    }
    plotting.close(plotting.gallery(curves, steps), out / "gallery.png")
    for number, run in enumerate(runs, 1):
        name = f"{number:02}-{re.sub('[^a-z0-9]+', '-', run.name.lower())}"
        run.history.to_csv(out / f"{name}.csv")
        shares = {"training accuracy": run.accuracy, "validation accuracy": run.val_accuracy}
        figure = plot_run(
            run.history, shares, title=" with ".join(map(repr, run.callbacks)), target=data.target
        )
        plotting.close(figure, out / f"{name}.png")


def load(
    name: str, folder: Path | None = None, seed: int = 0, train_size: int | None = None
) -> Data:
    """Return a data set by name; see `main` for the arguments."""
    if name == "digits":
        if folder is not None:
            raise DemoError("--data-dir goes with --data fashion-mnist: the digits need no files.")
        data = _digits(seed)
    elif name == "fashion-mnist":
        data = _fashion_mnist(folder)
    else:
        raise DemoError(f"--data must be digits or fashion-mnist. Received: {name}")
    if train_size is not None:
        chosen = np.random.default_rng(seed).permutation(len(data.x))[:train_size]
        data.x, data.y = data.x[chosen], data.y[chosen]
    return data


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, packed by gzip or not.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit number, the values.

    Raises:
        DemoError: If the file cannot be read or does not hold what its head promises.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DemoError(f"Cannot read {path}: {error}. Download the file again.") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DemoError(
            f"{path} is no IDX file of bytes: it must begin with 00 00 08. "
            f"Received: {content[:4].hex(' ') or 'an empty file'}"
        )
    head = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:head]) if len(content) >= head else ()
    size = int(np.prod(shape, dtype=object))
    if len(content) < head or len(content) != head + size:
        raise DemoError(
            f"{path} is damaged: its head promises {head + size:,} bytes. "
            f"Received: {len(content):,}. Download the file again."
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _digits(seed: int) -> Data:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DemoError(f"The digits come with scikit-learn: {EXTRA}") from error
    digits = load_digits()
    parts = train_test_split(
        (digits.images / 16).astype(np.float32)[..., None],
        digits.target.astype(np.uint8),
        test_size=0.25,
        stratify=digits.target,
        random_state=seed,
    )
    x, x_val, y, y_val = parts
    return Data(x, y, x_val, y_val, "Handwritten digits, 8 x 8", batch_size=32, target=0.95)


def _fashion_mnist(folder: Path | None) -> Data:
    if folder is None:
        try:
            (x, y), (x_val, y_val) = keras.datasets.fashion_mnist.load_data()
        # Keras reports every failure to download as a bare Exception.
        except Exception as error:
            raise DemoError(
                f"Fashion-MNIST could not be downloaded ({error}). Get the four files "
                f"{', '.join(name for pair in IDX_FILES.values() for name in pair)} (.gz or not) "
                "from https://github.com/zalandoresearch/fashion-mnist and pass their folder: "
                "--data-dir FOLDER"
            ) from error
    else:
        x, y = _read_pair(folder, *IDX_FILES["train"])
        x_val, y_val = _read_pair(folder, *IDX_FILES["validation"])
    x, x_val = (images[..., None].astype(np.float32) / 255 for images in (x, x_val))
    return Data(x, y, x_val, y_val, "Fashion-MNIST, 28 x 28", batch_size=128, target=0.9)


def _read_pair(folder: Path, *names: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    found = []
    for name in names:
        choices = [folder / (name + end) for end in ("", ".gz")]
        path = next((choice for choice in choices if choice.is_file()), None)
        if path is None:
            raise DemoError(f"There is no {name} or {name}.gz in the folder {folder}.")
        found.append(read_idx(path))
    images, labels = found
    if images.ndim != 3 or labels.ndim != 1 or not 0 < len(images) == len(labels):
        raise DemoError(
            f"{names[0]} and {names[1]} in {folder} do not belong together. "
            f"Received: images {images.shape}, labels {labels.shape}"
        )
    return images, labels


def _compiled(model: keras.Model) -> keras.Model:
    model.compile(
        keras.optimizers.SGD(momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        # XLA takes longer to compile a network this small than it saves; JAX has nothing else.
        jit_compile=keras.backend.backend() == "jax",
    )
    return model


class _Progress(keras.callbacks.Callback):
    """Move a bar by one at each epoch's end."""

    def __init__(self, bar: Any) -> None:
        super().__init__()
        self.bar = bar

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            self.bar.set_postfix_str(f"validation {logs['val_accuracy']:.1%}", refresh=False)
        self.bar.update()


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise DemoError(f"The progress bar needs tqdm: {EXTRA}") from error
    return tqdm
