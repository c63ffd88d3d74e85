"""The command line: `keras-lr preview`, `check`, `list`, `schema`, `history`, `compare`, `demo`."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Each subcommand imports what it needs: only some draw. Keras comes with the package, whatever one
# asks for, because importing keras_lr is what lets Keras load a model that holds our schedules.
# It comes with its backend: Python imports the package before this module, which could choose
# another, and the numpy backend, which would do, needs JAX.


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit code: 0 for success, 1 for an error that has been explained, 130 when interrupted.
        A mistake in the arguments exits with 2.
    """
    arguments = vars(_parser().parse_args(argv))
    command = arguments.pop("command")
    try:
        return command(**arguments)
    except KeyboardInterrupt:
        print("keras-lr: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has enough. What Python still holds goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ImportError, MemoryError, OSError, ValueError) as error:
        if command is _demo:
            raise
        print(f"keras-lr: {error}", file=sys.stderr)
        return 1


def _check(configs: list[Path], modules: list[str]) -> int:
    from keras_lr import ConfigError, load

    _import(modules)
    failed = False
    for path in configs:
        try:
            count = len(load(path))
            what = (
                f"{count} {'callback' if count == 1 else 'callbacks'}" if count else "an empty list"
            )
            print(f"{path}: {what}, no errors")
        except (ConfigError, OSError) as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


def _import(modules: list[str]) -> None:
    sys.path.insert(0, "")
    for name in modules:
        importlib.import_module(name)


def _preview(
    configs: list[Path], modules: list[str], epochs: float, steps_per_epoch: float, out: Path | None
) -> int:
    import numpy as np

    from keras_lr import terminal
    from keras_lr.schedule import unreached
    from keras_lr.timeline import Timeline

    _import(modules)
    drawn: dict[str, dict[str, Any]] = {}
    for path, name in _names(configs).items():
        for label, parameter, schedule in _schedules(path, name):
            drawn.setdefault(parameter, {})[label] = schedule
    if not drawn:
        raise ValueError(f"no schedule to draw in {', '.join(map(str, configs))}")
    timeline = Timeline(steps_per_epoch, epochs)
    curves = {
        parameter: {
            label: schedule.values(epochs=epochs, steps_per_epoch=steps_per_epoch)
            for label, schedule in schedules.items()
        }
        for parameter, schedules in drawn.items()
    }
    for parameter, some in curves.items():
        scale = terminal.Scale.of(some.values())
        for label, values in some.items():
            print(f"{label}: {parameter.replace('_', ' ')}")
            print(terminal.draw(values, steps_per_epoch, scale))
            starts = terminal.starts(drawn[parameter][label], timeline)
            print(terminal.describe(np.asarray(values), steps_per_epoch, starts))
            if note := unreached(drawn[parameter][label], timeline):
                print(note)
            print()
    if out is not None:
        _picture(
            {name.replace("_", " "): (some, None) for name, some in curves.items()},
            steps_per_epoch,
            out,
        )
    return 0


def _schedules(path: Path, file: str) -> list[tuple[str, str, Any]]:
    """Return label, hyperparameter and schedule of all that a config moves."""
    import keras

    from keras_lr import ParamScheduler, Schedule, load

    callbacks = load(path)
    # What else a schedule moves depends on the optimizer; take one that has a momentum.
    optimizer = keras.optimizers.SGD(momentum=0.9)
    found: list[tuple[str, str, Any]] = []
    for callback in callbacks:
        if isinstance(callback, Schedule):
            moved = callback.moves(optimizer)
            found += [(type(callback).__name__, name, moved[name]) for name in moved]
        elif isinstance(callback, ParamScheduler):
            owner = "" if callback.optimizer is None else f"{callback.optimizer}'s "
            found += [
                (f"{owner}{type(schedule).__name__}", name, schedule)
                for name, schedule in callback.schedules.items()
            ]
        else:
            kind = type(callback).__name__
            print(f"{path}: {kind} depends on the training and is not drawn", file=sys.stderr)
    parameters = [parameter for _, parameter, _ in found]
    return [
        # Several schedules of one hyperparameter in a file are told apart by place and class.
        (file if parameters.count(name) == 1 else f"{file} [{i}] {label}", name, schedule)
        for i, (label, name, schedule) in enumerate(found)
    ]


def _picture(
    panels: Mapping[str, tuple[Mapping[str, Any], str | None]], per_epoch: float, out: Path
) -> None:
    from keras_lr import plotting

    figure = plotting.plot_panels(panels, per_epoch)
    out.parent.mkdir(parents=True, exist_ok=True)
    plotting.close(figure, out)
    print(f"wrote {out}")


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """Return what to call each file: its name, and where several bear it, its path."""
    names = [file.name for file in dict.fromkeys(files)]
    return {file: file.name if names.count(file.name) == 1 else str(file) for file in files}


def _schema(modules: list[str]) -> int:
    from keras_lr.schema import schema

    _import(modules)
    print(json.dumps(schema(), indent=2))
    return 0


def _history(file: Path, out: Path | None) -> int:
    from keras_lr import plotting, terminal

    history = _record(file)
    print(f"{file}: {history!r}")
    per_epoch = _per_epoch(history)
    for name, values in (("learning rate", history.learning_rate), ("loss", history.loss)):
        print(f"\n{name}")
        print(terminal.draw(values, per_epoch))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure: Any = history.plot().figure
        plotting.close(figure, out)
        print(f"\nwrote {out}")
    return 0


def _compare(files: list[Path], out: Path | None) -> int:
    from keras_lr import terminal

    histories = {name: _record(file) for file, name in _names(files).items()}
    rows: list[tuple[str, ...]] = []
    losses = {}
    for name, history in histories.items():
        rate, losses[name] = history.learning_rate, _smooth(history.loss)
        numbers = (rate[0], rate.max(), rate[-1], losses[name][-1])
        epochs = len(set(history.epoch.tolist()))
        rows.append((name, f"{len(history):,}", f"{epochs:,}", *(f"{n:.4g}" for n in numbers)))
    head = ("", "steps", "epochs", "first lr", "peak lr", "last lr", "last loss")
    print(terminal.table([head, *rows]))
    rates = {name: history.learning_rate for name, history in histories.items()}
    sizes = {name: _per_epoch(history) for name, history in histories.items()}
    first = next(iter(sizes))
    per_epoch = sizes[first]
    if len(set(sizes.values())) > 1:
        print(f"(their epochs differ in length; those of {first}, {per_epoch:g} steps, count)")
    panels = {"learning rate": rates, "loss (moving mean)": losses}
    for what, curves in panels.items():
        scale = terminal.Scale.of(curves.values())
        for name, values in curves.items():
            print(f"\n{name}: {what}")
            print(terminal.draw(values, per_epoch, scale))
    if out is not None:
        print()
        whose = " and ".join(file.stem for file in files) if len(files) < 4 else "the records"
        titled = {
            what: (some, f"{what[0].upper()}{what[1:]} of {whose}") for what, some in panels.items()
        }
        _picture(titled, per_epoch, out)
    return 0


def _record(file: Path) -> Any:
    from keras_lr import LRHistory

    history = LRHistory.from_csv(file)
    if not len(history):
        raise ValueError(f"{file} holds no steps")
    return history


def _per_epoch(history: Any) -> float:
    import numpy as np

    return float(np.median(np.unique(history.epoch, return_counts=True)[1]))


def _smooth(loss: Any) -> Any:
    """Return the mean loss of the last fortieth of the steps at each step."""
    import numpy as np

    width = max(1, len(loss) // 40)
    known = np.isfinite(loss)
    total = np.cumsum(np.insert(np.where(known, loss, 0.0), 0, 0.0))
    count = np.cumsum(np.insert(known.astype(float), 0, 0.0))
    ends = np.arange(1, len(loss) + 1)
    begins = np.maximum(ends - width, 0)
    counted = count[ends] - count[begins]
    mean = np.full(len(loss), np.nan)
    return np.divide(total[ends] - total[begins], counted, out=mean, where=counted > 0)


def _demo(**arguments: Any) -> int:
    from keras_lr import demo

    try:
        demo.main(**arguments)
    except demo.DemoError as error:
        print(f"keras-lr demo: {error}", file=sys.stderr)
        return 1
    return 0


def _list() -> int:
    import keras_lr
    from keras_lr.schedule import Schedule

    public = {name: getattr(keras_lr, name) for name in keras_lr.__all__}
    found = {
        name: (one.__doc__ or "").strip().splitlines()[0].replace("``", "")
        for name, one in public.items()
        if isinstance(one, type) and issubclass(one, Schedule) and one is not Schedule
    }
    for name in sorted(found):
        print(f"{name:<{max(map(len, found))}}  {found[name]}")
    return 0


def _parser() -> argparse.ArgumentParser:
    from keras_lr import __version__

    parser = argparse.ArgumentParser(
        "keras-lr",
        description="Learning-rate schedules for Keras.",
        epilog="example:\n  keras-lr preview lr.yaml --epochs 90 --steps-per-epoch 391",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    preview = _command(
        commands,
        "preview",
        "draw the learning rates of configs, without training",
        "keras-lr preview a.yaml b.toml --epochs 90 --steps-per-epoch 391 --out lr.png",
    )
    preview.set_defaults(command=_preview)
    _configs(preview)
    for name, what in (("--epochs", "epochs of the fit"), ("--steps-per-epoch", "batches in each")):
        preview.add_argument(name, type=_whole(1), required=True, metavar="N", help=what)
    _out(preview)

    check = _command(
        commands,
        "check",
        "say every error of configs, and exit with 1 if there is one",
        "keras-lr check lr.yaml",
    )
    check.set_defaults(command=_check)
    _configs(check)

    listing = _command(
        commands, "list", "print every schedule with one line about it", "keras-lr list"
    )
    listing.set_defaults(command=_list)

    schema = _command(
        commands,
        "schema",
        "print the JSON Schema of configs, by which editors complete and check",
        "keras-lr schema > lr.schema.json",
    )
    schema.set_defaults(command=_schema)
    _modules(schema)

    history = _command(
        commands,
        "history",
        "draw a record that LRHistory.to_csv wrote",
        "keras-lr history run.csv --out run.png",
    )
    history.set_defaults(command=_history)
    history.add_argument("file", type=Path, metavar="FILE.csv", help="the record")
    _out(history)

    compare = _command(
        commands,
        "compare",
        "draw the rates and losses of several records",
        "keras-lr compare a.csv b.csv --out both.png",
    )
    compare.set_defaults(command=_compare)
    compare.add_argument("files", type=Path, nargs="+", metavar="FILE.csv", help="the records")
    _out(compare)

    demo = _command(
        commands,
        "demo",
        "train a small network under every kind of schedule and compare",
        "keras-lr demo --data fashion-mnist --data-dir ~/fashion --train-size 6000",
    )
    demo.set_defaults(command=_demo)
    demo.add_argument(
        "--data",
        choices=("digits", "fashion-mnist"),
        default="digits",
        help="digits (the default) come with scikit-learn; fashion-mnist is downloaded by Keras",
    )
    demo.add_argument(
        "--data-dir",
        type=Path,
        metavar="FOLDER",
        help="read Fashion-MNIST from its four IDX files in this folder, .gz or not",
    )
    demo.add_argument(
        "--epochs", type=_whole(1), default=14, metavar="N", help="of each training (14)"
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("keras_lr_demo"),
        metavar="FOLDER",
        help="where pictures and records go (keras_lr_demo)",
    )
    demo.add_argument(
        "--seed",
        type=_whole(0),
        default=0,
        metavar="N",
        help="decides split, initial weights and order of the batches (0)",
    )
    demo.add_argument(
        "--train-size", type=_whole(1), metavar="N", help="use only N training images"
    )
    return parser


def _configs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "configs", type=Path, nargs="+", metavar="CONFIG", help="a .yaml, .toml or .json file"
    )
    _modules(command)


def _modules(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of yours that registers functions or classes by @keras_lr.register",
    )


def _out(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="write a picture too, .png or .svg"
    )


def _command(commands: Any, name: str, what: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _whole(at_least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isdecimal() or not at_least <= int(text) < 2**32:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {at_least} to {2**32 - 1}. Received: {text}"
            )
        return int(text)

    return convert


if __name__ == "__main__":
    sys.exit(main())
