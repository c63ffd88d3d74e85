"""The command line: `keras-lr preview`, `check`, `list`, `schema`, `sweep`, `demo` and others."""

import argparse
import contextlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from keras_lr import __version__
from keras_lr._files import is_installed_file
from keras_lr.cli import commands, sweeps
from keras_lr.cli.sources import ConfigSource
from keras_lr.plotting.text import join_words

QUOTED = re.compile(r"'[^']*'|\S+")
"""A word of a command line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit code: 0 for success, 1 for an error that has been explained, 130 when interrupted.
        A mistake in the arguments exits with 2.
    """
    parser = _build_parser()
    _complete(parser)
    arguments = vars(parser.parse_args(argv))
    command, trains = arguments.pop("command"), arguments.pop("trains")
    if not trains(arguments):
        _choose_light_backend(arguments.get("modules", ()))
    try:
        return command(**arguments)
    except KeyboardInterrupt:
        print("keras-lr: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe; discard what Python still buffers.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ImportError, MemoryError, OSError, SyntaxError, TypeError, ValueError) as error:
        unexplained = isinstance(error, TypeError) and command is not sweeps.run_or_show
        place, raised_there = _users_line(error)
        if command is commands.run_demo or unexplained or raised_there:
            raise
        print(f"keras-lr: {place}{error}", file=sys.stderr)
        return 1


def _users_line(error: BaseException) -> tuple[str, bool]:
    """Return the last line of the user's own code in the traceback of an error.

    Returns:
        The line as the start of a message, ``"study.py:3: "``, empty if there is none; and whether
        the error arose there or in a library called there, rather than being raised by keras_lr.
    """
    place, raised_there = "", False
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] == "keras_lr":
            raised_there = False
        elif _is_users(frame):
            place, raised_there = f"{os.path.relpath(frame.f_code.co_filename)}:{line}: ", True
    return place, raised_there


def _is_users(frame: FrameType) -> bool:
    """Return whether a frame is neither of the standard library nor of an installed package."""
    path = frame.f_code.co_filename
    return not (path.startswith("<") or is_installed_file(path))


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell's request for completions, if it made one, and end the process."""
    if "COMP_LINE" in os.environ:
        with contextlib.suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)


def _choose_light_backend(modules: Sequence[str]) -> None:
    """Make Keras use NumPy for a command that trains nothing, unless it was imported before.

    Then Keras is imported in half the time, and prints nothing. Users' modules may need the backend
    for which they were written. Keras's NumPy backend uses parts of JAX, so JAX must be installed.
    """
    if not modules and "keras" not in sys.modules and importlib.util.find_spec("jax"):
        os.environ["KERAS_BACKEND"] = "numpy"


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "keras-lr",
        description="Learning-rate schedules for Keras: draw, check and compare them.",
        epilog="example:\n  keras-lr preview lr.yaml --epochs 90 --steps-per-epoch 391",
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    group = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    preview = _add_command(
        group,
        commands.preview_configs,
        "preview",
        "draw the learning rates of configs, without training",
        "keras-lr preview a.yaml b.toml --epochs 90 --steps-per-epoch 391 --out lr.png",
        "keras-lr preview 'CosineDecay: {initial_lr: 0.1}' --epochs 90 --steps-per-epoch 391",
    )
    _add_configs(preview)
    for name, what in (("--epochs", "epochs of the fit"), ("--steps-per-epoch", "batches in each")):
        preview.add_argument(name, type=_whole_number(1), required=True, metavar="N", help=what)
    _add_out(preview)

    check = _add_command(
        group,
        commands.check_configs,
        "check",
        "print every error in configs, and exit with 1 if there is one",
        "keras-lr check lr.yaml",
    )
    _add_configs(check)

    _add_command(
        group,
        commands.list_classes,
        "list",
        "print every schedule and callback with its arguments and one line about it",
        "keras-lr list",
    )

    schema = _add_command(
        group,
        commands.print_schema,
        "schema",
        "print the JSON Schema of configs, with which editors complete and check",
        "keras-lr schema > lr.schema.json",
    )
    _add_modules(schema)

    history = _add_command(
        group,
        commands.draw_history,
        "history",
        "draw a record, from LRHistory.to_csv or from a state_path",
        "keras-lr history run.csv --out run.png",
    )
    history.add_argument("file", type=Path, metavar="FILE", help="the record, .csv or .npz")
    _add_out(history)

    compare = _add_command(
        group,
        commands.compare_histories,
        "compare",
        "draw the rates and losses of several records",
        "keras-lr compare a.csv b.csv --out both.png",
    )
    compare.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="the records, .csv or .npz"
    )
    _add_out(compare)

    sweep = _add_command(
        group,
        sweeps.run_or_show,
        "sweep",
        "train at many rates, as a file says; `sweep show` tells what was found so far",
        "keras-lr sweep study.py",
        "keras-lr sweep show sweeps/digits --out valleys.png",
        trains=lambda arguments: sweeps.trains(arguments["what"]),
    )
    sweep.usage = "%(prog)s [...] STUDY.py\n       %(prog)s [...] show DIRECTORY"
    sweep.add_argument(
        "what",
        nargs="+",
        metavar="STUDY.py | show DIRECTORY",
        help="a file that defines `build`, `data` and `sweep` or `population`; or the directory of "
        "one",
    )
    sweep.add_argument("--y", metavar="NAME", help="what the picture shows, such as seconds")
    sweep.add_argument(
        "--engine",
        choices=("local", "ray"),
        metavar="NAME",
        help="where to train: local (the default), or ray for many cores, GPUs or machines",
    )
    sweep.add_argument(
        "--workers", type=_whole_number(1), metavar="N", help="the most workers of Ray"
    )
    _add_out(sweep)

    demo = _add_command(
        group,
        commands.run_demo,
        "demo",
        "train a small network under every kind of schedule and compare",
        "keras-lr demo --data fashion-mnist --data-dir ~/fashion --train-size 6000",
        trains=lambda arguments: True,
    )
    demo.add_argument(
        "--data",
        choices=("digits", "fashion-mnist"),
        metavar="NAME",
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
        "--epochs", type=_whole_number(1), default=14, metavar="N", help="of each training run (14)"
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
        type=_whole_number(0),
        default=0,
        metavar="N",
        help="decides split, initial weights and order of the batches (0)",
    )
    demo.add_argument(
        "--train-size", type=_whole_number(1), metavar="N", help="use only N training images"
    )
    return parser


def _add_configs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "configs",
        type=ConfigSource,
        nargs="+",
        metavar="CONFIG",
        help="a .yaml, .toml or .json file, - for standard input, or the text itself",
    )
    _add_modules(command)


def _add_modules(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="your own module that registers functions or classes with @keras_lr.register",
    )


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="write a picture too, .png or .svg"
    )


def _add_command(
    group: Any,
    command: Callable[..., int],
    name: str,
    what: str,
    *examples: str,
    trains: Callable[[dict[str, Any]], bool] = lambda arguments: False,
) -> argparse.ArgumentParser:
    """Add a subcommand.

    Args:
        group: The parser's group of subcommands.
        command: Function that runs it, with its arguments by name, and returns the exit code.
        name: Its name.
        what: Its description.
        *examples: Command lines that show its use.
        trains: Function of its arguments that returns whether it needs the backend for training.
    """
    parser = group.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog="\n".join(["example:", *(f"  {example}" for example in examples)]),
        formatter_class=_Formatter,
    )
    parser.set_defaults(command=command, trains=trains)
    return parser


class _Formatter(argparse.HelpFormatter):
    """Formatter that wraps each line separately to the terminal, commands with backslashes."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            join_words(QUOTED.findall(line), width, indent + "  ", indent + "    ", end=" \\")
            if line.startswith("  ")
            else join_words(line.split(), width, indent, indent)
            for line in text.splitlines()
        )


def _whole_number(at_least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isdecimal() or not at_least <= int(text) < 2**32:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {at_least} to {2**32 - 1}. Received: {text}"
            )
        return int(text)

    return convert
