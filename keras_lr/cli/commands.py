"""The subcommands of the command line. Each returns its exit code."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_lr.cli.signatures import ClassSummary, summarize_classes
from keras_lr.cli.sources import ConfigSource, display_names, short_names
from keras_lr.plotting import text

# Each subcommand imports what it needs, because importing Keras takes seconds.


def check_configs(configs: list[ConfigSource], modules: list[str]) -> int:
    """Print every error in some configs."""
    from keras_lr import ConfigError

    _import_modules(modules)
    failed = False
    for source in configs:
        try:
            count = len(source.load())
            what = (
                f"{count} {'callback' if count == 1 else 'callbacks'}" if count else "an empty list"
            )
            print(f"{source}: {what}, no errors")
        except (ConfigError, OSError) as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


def _import_modules(names: list[str]) -> None:
    """Import modules, which register what configs name, also from the working directory."""
    sys.path.insert(0, "")
    for name in names:
        importlib.import_module(name)


def preview_configs(
    configs: list[ConfigSource],
    modules: list[str],
    epochs: float,
    steps_per_epoch: float,
    out: Path | None,
) -> int:
    """Draw the schedules of some configs, without training."""
    import numpy as np

    from keras_lr._fields.timeline import Timeline
    from keras_lr.plotting import terminal
    from keras_lr.plotting.scales import Scale
    from keras_lr.schedules.control import unreached_warning

    _import_modules(modules)
    drawn: dict[str, dict[str, Any]] = {}
    for source, name in display_names(configs).items():
        for label, parameter, schedule in _load_schedules(source, name):
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
        scale = Scale.of(some.values())
        for label, values in some.items():
            _print_head(label, parameter.replace("_", " "))
            print(terminal.draw(values, steps_per_epoch, scale))
            starts = drawn[parameter][label].stage_starts(timeline)
            print(terminal.describe(np.asarray(values), steps_per_epoch, starts))
            if note := unreached_warning(drawn[parameter][label], timeline):
                print(text.wrap(note))
            print()
    if out is not None:
        _write_panels(
            {name.replace("_", " "): (some, None) for name, some in curves.items()},
            steps_per_epoch,
            out,
        )
    return 0


def _print_head(label: str, what: str) -> None:
    """Print the heading of a drawing."""
    label = text.shorten(label, text.line_width() - len(f": {what}"))
    print(text.emphasize(f"{label}: {what}"))


def _load_schedules(source: ConfigSource, config: str) -> list[tuple[str, str, Any]]:
    """Return the label, hyperparameter and schedule of everything that a config moves."""
    import keras

    from keras_lr import ParamScheduler, Schedule

    callbacks = source.load()
    # What else a schedule moves depends on the optimizer; this one has a momentum.
    optimizer = keras.optimizers.SGD(momentum=0.9)
    found: list[tuple[str, str, Any]] = []
    for callback in callbacks:
        if isinstance(callback, Schedule):
            moved = callback.hyperparameter_schedules(optimizer)
            found += [(type(callback).__name__, name, moved[name]) for name in moved]
        elif isinstance(callback, ParamScheduler):
            owner = "" if callback.optimizer is None else f"{callback.optimizer}'s "
            found += [
                (f"{owner}{type(schedule).__name__}", name, schedule)
                for name, schedule in callback.schedules.items()
            ]
        else:
            kind = type(callback).__name__
            print(f"{source}: {kind} depends on the training and is not drawn", file=sys.stderr)
    parameters = [parameter for _, parameter, _ in found]
    return [
        # Place and class distinguish several schedules of one hyperparameter in a config.
        (config if parameters.count(name) == 1 else f"{config} [{i}] {label}", name, schedule)
        for i, (label, name, schedule) in enumerate(found)
    ]


def _write_panels(
    panels: Mapping[str, tuple[Mapping[str, Any], str | None]], per_epoch: float, out: Path
) -> None:
    from keras_lr import plotting

    _write_figure(plotting.plot_panels(panels, per_epoch), out)


def _write_figure(figure: Any, out: Path) -> None:
    from keras_lr import plotting

    out.parent.mkdir(parents=True, exist_ok=True)
    plotting.close(figure, out)
    print(f"wrote {out}")


def print_schema(modules: list[str]) -> int:
    """Print the JSON Schema of configs."""
    from keras_lr.config.schema import schema

    _import_modules(modules)
    print(json.dumps(schema(), indent=2))
    return 0


def draw_history(file: Path, out: Path | None) -> int:
    """Draw the record of a training run."""
    from keras_lr.plotting import terminal

    history = _load_history(file)
    print(text.wrap(f"{file}: {history!r}"))
    per_epoch = _steps_per_epoch(history)
    for name, values in (("learning rate", history.learning_rate), ("loss", history.loss)):
        print()
        print(text.emphasize(name))
        print(terminal.draw(values, per_epoch))
    if out is not None:
        print()
        _write_figure(history.plot().figure, out)
    return 0


def compare_histories(files: list[Path], out: Path | None) -> int:
    """Draw the rates and losses of several records, and print a table of them."""
    from keras_lr.plotting import terminal
    from keras_lr.plotting.scales import Scale

    histories = {name: _load_history(file) for file, name in short_names(files).items()}
    rows: list[tuple[str, ...]] = []
    losses = {}
    for name, history in histories.items():
        rate, losses[name] = history.learning_rate, _trailing_mean(history.loss)
        numbers = (rate[0], rate.max(), rate[-1], losses[name][-1])
        epochs = len(set(history.epoch.tolist()))
        rows.append((name, f"{len(history):,}", f"{epochs:,}", *(f"{n:.4g}" for n in numbers)))
    head = ("", "steps", "epochs", "first lr", "peak lr", "last lr", "last loss")
    print(text.format_table([head, *rows]))
    rates = {name: history.learning_rate for name, history in histories.items()}
    sizes = {name: _steps_per_epoch(history) for name, history in histories.items()}
    first = next(iter(sizes))
    per_epoch = sizes[first]
    if len(set(sizes.values())) > 1:
        whose = f"those of {first}, {per_epoch:g} steps, count"
        print(text.wrap(f"(their epochs differ in length; {whose})"))
    panels = {"learning rate": rates, "loss (moving mean)": losses}
    for what, curves in panels.items():
        scale = Scale.of(curves.values())
        for name, values in curves.items():
            print()
            _print_head(name, what)
            print(terminal.draw(values, per_epoch, scale))
    if out is not None:
        print()
        whose = " and ".join(histories) if len(histories) < 4 else "the records"
        titled = {
            what: (some, f"{what[0].upper()}{what[1:]} of {whose}") for what, some in panels.items()
        }
        _write_panels(titled, per_epoch, out)
    return 0


def _load_history(file: Path) -> Any:
    from keras_lr import LRHistory

    is_state = zipfile.is_zipfile(file)
    history = LRHistory.from_state(file) if is_state else LRHistory.from_csv(file)
    if not len(history):
        raise ValueError(f"{file} holds no steps")
    return history


def _steps_per_epoch(history: Any) -> float:
    import numpy as np

    return float(np.median(np.unique(history.epoch, return_counts=True)[1]))


def _trailing_mean(loss: Any) -> Any:
    """Return the mean loss over the last fortieth of the steps, at each step."""
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


def run_demo(**arguments: Any) -> int:
    """Train a small network under every kind of schedule."""
    from keras_lr.cli import demo

    try:
        demo.main(**arguments)
    except demo.DemoError as error:
        print(f"keras-lr demo: {error}", file=sys.stderr)
        return 1
    return 0


def list_classes() -> int:
    """Print every schedule and callback with its arguments and the first line of its docstring."""
    found = summarize_classes()
    parts = {
        "schedules": [one for one in found if one.is_schedule],
        "callbacks": [one for one in found if not one.is_schedule],
    }
    for number, (title, some) in enumerate(parts.items()):
        print("\n" * bool(number) + text.emphasize(f"{title}:"))
        for one in some:
            print(_format_call(one, text.line_width()))
            print(text.wrap(one.summary, indent=" " * 6))
    return 0


def _format_call(one: ClassSummary, width: int) -> str:
    """Return a class and its arguments, in lines that are broken between arguments."""
    *others, last = one.arguments or ("",)
    first, *later = (*(f"{argument}," for argument in others), f"{last})")
    words = [f"{one.name}({first}", *later]
    if len(words[0]) + 2 > width:
        words[:1] = f"{one.name}(", first
    return text.join_words(words, width, " " * 2, " " * 6)
