"""The schedules that the pictures show; ``python docs/pictures.py`` draws docs/images."""

import pathlib

import keras_lr as klr
from keras_lr import plotting
from keras_lr.cli import demo

EPOCHS, STEPS = 30, 50

SHAPES = {
    "Constant": "Constant(0.1)",
    "PiecewiseConstant": "PiecewiseConstant([10, 20], [0.1, 0.03, 0.01])",
    "StepDecay": "StepDecay(0.1, factor=0.5, every=6)",
    "LinearDecay": "LinearDecay(0.1)",
    "PolynomialDecay": "PolynomialDecay(0.1)",
    "TimeDecay": "TimeDecay(0.1, rate=0.2)",
    "ExponentialDecay": "ExponentialDecay(0.1, factor=0.9)",
    "InverseSqrtDecay": "InverseSqrtDecay(0.1, timescale=2)",
    "CosineDecay": "CosineDecay(0.1)",
    "TriangularCLR": 'TriangularCLR(0.01, 0.1, mode="triangular2")',
    "CosineRestarts": "CosineRestarts(0.1, first_cycle=4)",
    "OneCycle": "OneCycle(0.1)",
    "WarmupStableDecay": "WarmupStableDecay(0.1)",
}

COMPOSITIONS = {
    "Sequence": "LinearDecay(0.0, 0.1, over=5) >> StepDecay(0.1)",
    "Warmup": "CosineDecay(0.1).warmup(5)",
    "Lasting": "LinearDecay(0.1, 0.02).lasting(20)",
    "Scaled": "0.5 * OneCycle(0.2)",
    "Product": "StepDecay(0.1, every=10) * TriangularCLR(0.3, 1)",
    "Clip": "ExponentialDecay(0.1, factor=0.9).clip(min=0.02)",
    "Repeat": "LinearDecay(0.1).repeat(3, scale=0.6)",
    "PerEpoch": "CosineDecay(0.1).per_epoch()",
    "Function": "Function(lambda epoch: 0.1 if epoch < 20 else 0.1 / (epoch - 18))",
}

EXAMPLES = SHAPES | COMPOSITIONS
"""What to type for an example of each schedule, by the name of its class."""


def values(expression: str):
    """Return the curve of the schedule that an expression makes."""
    return eval(expression, dict(vars(klr))).values(epochs=EPOCHS, steps_per_epoch=STEPS)


def draw_training(folder: pathlib.Path) -> None:
    """Draw a range test on handwritten digits, and the record of a training at its rate."""
    data = demo.load_data("digits")
    found = demo.find_rate(data)
    plotting.close(found.plot().figure, folder / "range-test.png")
    rate = klr.CosineRestarts(found.suggestion, first_cycle=4).warmup(1)
    demo.train_each({"restarts": [rate]}, data, epochs=13)
    plotting.close(rate.history.plot().figure, folder / "history.png")


def main(folder: pathlib.Path) -> None:
    """Draw the gallery, a range test, and the record of a training."""
    folder.mkdir(exist_ok=True)
    shapes = {name: values(expression) for name, expression in SHAPES.items()}
    plotting.close(plotting.gallery(shapes, STEPS, columns=5), folder / "gallery.png")
    draw_training(folder)


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent / "images")
