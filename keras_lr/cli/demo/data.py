"""The data of the demo: digits from scikit-learn, or Fashion-MNIST from files or Keras."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.uint8]

EXTRA = "pip install 'keras-lr[demo]'"
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "validation": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class DemoError(Exception):
    """Raised if something outside the program is missing or broken; says what to do."""


@dataclass
class Data:
    """Images with values from 0 to 1, and how the demo trains on them."""

    x: Images
    y: Labels
    x_val: Images
    y_val: Labels
    source: str
    batch_size: int
    target: float
    """Validation accuracy that the table times."""

    def batches(self, seed: int) -> Iterator[tuple[Images, Labels]]:
        """Yield batches without end; the order depends only on the seed and the epoch."""
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
        """Batches in an epoch, including a short last one."""
        return -(-len(self.x) // self.batch_size)


def load_data(
    name: str, folder: Path | None = None, seed: int = 0, train_size: int | None = None
) -> Data:
    """Return a data set by name; its arguments are those of `main`."""
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
    """Read an IDX file of bytes, compressed by gzip or not.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit number, the values.

    Raises:
        DemoError: If the file cannot be read or its contents do not match its header.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DemoError(f"Cannot read {path}: {error}. Download the file again.") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DemoError(
            f"{path} is not an IDX file of bytes: it must begin with 00 00 08. "
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
