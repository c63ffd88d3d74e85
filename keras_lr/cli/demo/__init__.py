"""The demo: one small network and one data set under a fixed rate and under many schedules."""

import sys
from pathlib import Path

from keras_lr._files import atomic_write
from keras_lr._hints import count_of
from keras_lr.cli.demo.data import Data, DemoError, load_data, read_idx
from keras_lr.cli.demo.report import chance_error, format_results, write_pictures
from keras_lr.cli.demo.training import Run, compared_callbacks, find_rate, train_each

__all__ = [
    "Data",
    "DemoError",
    "Run",
    "compared_callbacks",
    "find_rate",
    "format_results",
    "load_data",
    "main",
    "read_idx",
    "train_each",
    "write_pictures",
]


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
        epochs: Epochs of each training run.
        out: Folder to write to; made if it is missing.
        seed: Determines the split, the initial weights and the order of the batches.
        train_size: Number of training images to use; all by default.

    Returns:
        The result of each training run.

    Raises:
        DemoError: If a package, a file or a network is missing, or a file is broken.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"Cannot write to the folder {out}: {error}") from error
    from keras_lr import plotting

    loaded = load_data(data, data_dir, seed, train_size)
    size = f"{count_of(epochs, 'epoch')} of {count_of(loaded.steps_per_epoch, 'step')}"
    print(
        f"{loaded.source}: {len(loaded.x):,} training and {len(loaded.x_val):,} validation images, "
        f"{size} for each schedule"
    )
    print("\nLearning-rate range test:")
    found = find_rate(loaded, seed)
    # If the test shows its progress, it prints its report itself.
    print("" if sys.stdout.isatty() else f"{found.report()}\n")
    runs = train_each(compared_callbacks(epochs, found), loaded, epochs, seed)
    report = f"{format_results(runs, loaded.target)}\n\n{chance_error(runs, len(loaded.x_val))}"
    print(f"\n{report}\n")
    with atomic_write(out / "results.txt") as file:
        file.write(report + "\n")
    write_pictures(runs, loaded, epochs, out)
    plotting.close(found.plot().figure, out / "range-test.png")
    print(f"Pictures and the record of every step: {out}")
    return runs
