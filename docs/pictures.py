"""The schedules that the gallery shows; ``python docs/pictures.py`` draws docs/images."""

import pathlib
import re

import keras_lr as klr
from keras_lr import plotting
from keras_lr.cli import demo

EPOCHS, STEPS = 30, 50

GALLERY = (pathlib.Path(__file__).parent / "gallery.md").read_text(encoding="utf-8")


def examples(text: str) -> dict[str, str]:
    """Return what to type for an example of each schedule of a page, by the name of its class."""
    return dict(re.findall(r"^### (\w+)\n\n```\{schedule\} (.*)\n", text, re.MULTILINE))


EXAMPLES = examples(GALLERY)

SHAPES = examples(GALLERY.partition("\n## Compositions\n")[0])
"""Those that are not made of others."""


def values(expression: str):
    """Return the curve of the schedule that an expression makes."""
    return eval(expression, dict(vars(klr))).values(epochs=EPOCHS, steps_per_epoch=STEPS)


def draw_training(folder: pathlib.Path) -> None:
    """Draw a range test on handwritten digits, and the record of a training run at its rate."""
    data = demo.load_data("digits")
    found = demo.find_rate(data)
    plotting.close(found.plot().figure, folder / "range-test.png")
    rate = klr.CosineRestarts(found.suggestion, first_cycle=4).warmup(1)
    demo.train_each({"restarts": [rate]}, data, epochs=13)
    plotting.close(rate.history.plot().figure, folder / "history.png")


def main(folder: pathlib.Path) -> None:
    """Draw the gallery, a range test, and the record of a training run."""
    folder.mkdir(exist_ok=True)
    shapes = {name: values(expression) for name, expression in SHAPES.items()}
    plotting.close(plotting.gallery(shapes, STEPS, columns=5), folder / "gallery.png")
    draw_training(folder)


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent / "images")
