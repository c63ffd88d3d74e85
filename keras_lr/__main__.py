"""The command line: `keras-lr demo`, `keras-lr list`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Keras takes seconds to import, so each subcommand imports what it needs: help is instant.


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
        name: (one.__doc__ or "").strip().splitlines()[0]
        for name, one in public.items()
        if isinstance(one, type) and issubclass(one, Schedule) and one is not Schedule
    }
    for name in sorted(found):
        print(f"{name:<{max(map(len, found))}}  {found[name]}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "keras-lr",
        description="Learning-rate schedules for Keras.",
        epilog="example:\n  keras-lr demo --epochs 28",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

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

    listing = _command(
        commands, "list", "print every schedule with one line about it", "keras-lr list"
    )
    listing.set_defaults(command=_list)
    return parser


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
