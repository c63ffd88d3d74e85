"""Draw the pictures of the README: ``python docs/pictures.py``."""

import pathlib

import keras_lr as klr
from keras_lr import plotting

EPOCHS, STEPS = 30, 50

SHAPES = {
    "Constant": klr.Constant(0.1),
    "PiecewiseConstant": klr.PiecewiseConstant([10, 20], [0.1, 0.03, 0.01]),
    "StepDecay": klr.StepDecay(0.1, factor=0.5, every=6),
    "LinearDecay": klr.LinearDecay(0.1),
    "PolynomialDecay": klr.PolynomialDecay(0.1),
    "TimeDecay": klr.TimeDecay(0.1, rate=0.2),
    "ExponentialDecay": klr.ExponentialDecay(0.1, factor=0.9),
    "InverseSqrtDecay": klr.InverseSqrtDecay(0.1, timescale=2),
    "CosineDecay": klr.CosineDecay(0.1),
    "TriangularCLR": klr.TriangularCLR(0.01, 0.1, mode="triangular2"),
    "CosineRestarts": klr.CosineRestarts(0.1, first_cycle=4),
    "OneCycle": klr.OneCycle(0.1),
    "WarmupStableDecay": klr.WarmupStableDecay(0.1),
}

COMPOSED = {
    "CosineDecay(0.1).warmup(5)": klr.CosineDecay(0.1).warmup(5),
    "LinearDecay(0.1).repeat(3, scale=0.6)": klr.LinearDecay(0.1).repeat(3, scale=0.6),
    "CosineDecay(0.1).per_epoch()": klr.CosineDecay(0.1).per_epoch(),
    "StepDecay(0.1, every=10) * TriangularCLR(0.3, 1)": klr.StepDecay(0.1)
    * klr.TriangularCLR(0.3, 1.0),
}


def values(schedules):
    """Return the curve of each schedule."""
    return {
        name: rate.values(epochs=EPOCHS, steps_per_epoch=STEPS) for name, rate in schedules.items()
    }


def main(folder: pathlib.Path) -> None:
    """Draw the gallery, the compositions and one small picture of each shape."""
    folder.mkdir(exist_ok=True)
    plotting.close(plotting.gallery(values(SHAPES), STEPS), folder / "gallery.png")
    plotting.close(plotting.gallery(values(COMPOSED), STEPS, columns=2), folder / "composed.png")
    for name, curve in values(SHAPES).items():
        plotting.close(plotting.sparkline(curve), folder / f"{name}.png")


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent / "images")
