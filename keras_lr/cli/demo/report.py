"""Reports of the demo: a table of results, and plots and a record of each training run."""

import re
from pathlib import Path

import numpy as np

from keras_lr.cli.demo.data import Data
from keras_lr.cli.demo.training import Run
from keras_lr.plotting.text import align_columns


def format_results(runs: list[Run], target: float) -> str:
    """Return the results as aligned text."""
    head = ("schedule", "rate", f"epochs to {target:.0%}", "final val. accuracy", "seconds")
    rows: list[tuple[str, ...]] = [head]
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
    rows.insert(1, tuple("-" * max(map(len, column)) for column in zip(*rows, strict=True)))
    return align_columns(rows)


def chance_error(runs: list[Run], images: int) -> str:
    """Return a sentence on how far an accuracy on that many images can be trusted."""
    share = float(np.median([run.val_accuracy[-1] for run in runs]))
    error = 2 * (share * (1 - share) / images) ** 0.5
    return (
        f"Each schedule was tried once. On {images:,} images an accuracy near {share:.1%} is known "
        f"to within {100 * error:.1f} points (two standard errors)."
    )


def write_pictures(runs: list[Run], data: Data, epochs: int, out: Path) -> None:
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
