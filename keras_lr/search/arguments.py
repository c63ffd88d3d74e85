"""Checks of the arguments of a search's ``run``, made before any training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_lr._hints import nearest_name_hint
from keras_lr._keras.fits.callback_list import refuse_classes
from keras_lr._keras.fits.fit_data import ARRAYS, are_arrays, count_rows, split_validation
from keras_lr.adaptive.base import GradientRate
from keras_lr.callbacks import ParamScheduler
from keras_lr.range_test import LRRangeTest
from keras_lr.schedules.base import Schedule
from keras_lr.search.engines.base import Rehearsal
from keras_lr.search.trials.problem import SWEEP, Build, Problem, Search, subset

DECIDED = ("initial_epoch", "verbose")
"""Arguments of ``fit`` that the search decides."""

SUBSET_SEED = 0


def named_builds(build: Any, search: Search = SWEEP) -> dict[str, Build]:
    """Return the functions that build a model, by the name of the size.

    Raises:
        TypeError: If there is no such function.
    """
    if isinstance(build, Mapping) and build:
        wrong = [name for name, one in build.items() if not _is_function(one)]
        if not wrong:
            return {str(name): one for name, one in build.items()}
    if not _is_function(build):
        raise TypeError(
            f"{search.name}.run: argument `build` must be a function of an optimizer that returns "
            "a compiled model, or a dict of such functions by the name of the size. "
            f"Received: build={_with_arguments(build)}"
        )
    return {"": build}


def check_epochs(epochs: Any, search: Search = SWEEP) -> None:
    """Refuse a number of epochs that is not valid.

    Raises:
        ValueError: If it is not a whole number of at least 1.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(
            f"{search.name}.run: argument `epochs` must be a whole number of at least 1. "
            f"Received: epochs={epochs!r}"
        )


def default_monitor(fit: dict[str, Any]) -> str:
    """Return the logged value by which trials are compared by default."""
    return "loss" if fit.get("validation_data") is None else "val_loss"


def check_logged(given: Any, problem: Problem, rehearsal: Rehearsal) -> None:
    """Refuse a metric that is not logged, if any model could be built.

    Args:
        given: The search, whose arguments name the metrics.
        problem: What is trained.
        rehearsal: The rehearsal, with the names that an epoch logs.

    Raises:
        ValueError: If an epoch does not log one of the metrics.
    """
    freq = problem.fit.get("validation_freq", 1)
    for argument, name in problem.compared.items():
        if freq != 1 and name.startswith("val_"):
            raise ValueError(
                f"{problem.search.name}.run: argument `validation_freq` must be 1, because every "
                f"epoch must log {name!r}, which decides. Received: validation_freq={freq!r}"
            )
        if rehearsal.logged and name not in rehearsal.logged:
            raise ValueError(
                f"{problem.search.name}: argument `{argument}` must name a value that an epoch "
                f"logs. Received: {argument}={getattr(given, argument)!r}. Logged are: "
                f"{', '.join(rehearsal.logged)}"
            )


def _is_function(build: Any) -> bool:
    """Return whether ``build`` can be called with one argument."""
    if not callable(build) or isinstance(build, keras.Model):
        return False
    try:
        inspect.signature(build).bind(None)
    except TypeError:
        return False
    except ValueError:  # a function of C, whose arguments are not known
        pass
    return True


def _with_arguments(build: Any) -> str:
    """Return how a message shows ``build``: a function of Python with its arguments."""
    if not inspect.isfunction(build):
        return repr(build)
    return f"{build!r}, whose arguments are {inspect.signature(build)}"


def check_callbacks(callbacks: Any, search: Search = SWEEP) -> Any:
    """Return the callbacks of the trials, if none of them decides the rate.

    Raises:
        TypeError: If they are neither a list of callbacks nor a function.
        ValueError: If one of them decides the rate, which the search does.
    """
    callbacks = [] if callbacks is None else callbacks
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    if isinstance(callbacks, list | tuple):
        refuse_classes(callbacks)
        if any(not isinstance(one, keras.callbacks.Callback) for one in callbacks):
            raise TypeError(
                f"{search.name}.run: argument `callbacks` must be a list of Keras callbacks, or a "
                f"function of a trial that returns one. Received: callbacks={callbacks!r}"
            )
        driving = [one for one in callbacks if _decides_rate(one)]
        if driving:
            raise ValueError(
                f"{search.name}.run: argument `callbacks` must hold none that decides the learning "
                f"rate, which the {search.noun} does.{search.schedules} "
                f"Received: callbacks={driving!r}"
            )
        if any(isinstance(one, keras.callbacks.BackupAndRestore) for one in callbacks):
            raise ValueError(
                f"{search.name}.run: argument `callbacks` must hold no BackupAndRestore, from "
                "which one trial would resume where another was. To resume after a kill, pass "
                f"{search.name}(directory=...). Received: callbacks={callbacks!r}"
            )
    elif not callable(callbacks):
        raise TypeError(
            f"{search.name}.run: argument `callbacks` must be a list of Keras callbacks, or a "
            f"function of a trial that returns one. Received: callbacks={callbacks!r}"
        )
    return callbacks


def check_schedule(schedule: Any, rate: float) -> None:
    """Refuse a function of the rate that does not return a callback.

    Args:
        schedule: The function; None where the rate is constant.
        rate: A rate to call it with.

    Raises:
        TypeError: If it returns something else.
    """
    if schedule is None:
        return
    driver = schedule(rate)
    if not isinstance(driver, keras.callbacks.Callback):
        raise TypeError(
            "LRSweep: argument `schedule` must be a function of the rate that returns a callback, "
            f"as lambda lr: OneCycle(lr). Received: one that returns {driver!r} for {rate:g}"
        )


def _decides_rate(callback: Any) -> bool:
    if isinstance(callback, ParamScheduler):
        return "learning_rate" in callback.schedules
    kinds = Schedule, LRRangeTest, GradientRate, keras.callbacks.LearningRateScheduler
    return isinstance(callback, kinds)


def check_fit(
    fit: dict[str, Any], share: float | None = None, search: Search = SWEEP
) -> dict[str, Any]:
    """Return the arguments of ``fit`` for each trial, with a subset of the rows if one is wanted.

    Args:
        fit: The arguments, data among them.
        share: Share of the rows to train on; None for all.
        search: The search that error messages name.

    Raises:
        TypeError: If an argument is unknown, or decided by the search.
        ValueError: If the data cannot be read twice, or hold no rows.
    """
    known = [*inspect.signature(keras.Model.fit).parameters][1:]
    for name in fit:
        if name in DECIDED:
            raise TypeError(
                f"{search.name}.run: argument `{name}` is decided by the {search.noun}. Received: "
                f"{name}={fit[name]!r}"
            )
        if name not in known:
            raise TypeError(
                f"{search.name}.run: unknown argument `{name}`, which fit does not have."
                f"{nearest_name_hint(name, known)} Received: {name}={fit[name]!r}"
            )
    for name in ("x", "validation_data"):
        check_readable_twice(name, fit.get(name), search)
    fit = {name: value for name, value in fit.items() if value is not None}
    if fit.get("x") is None or (are_arrays(fit["x"]) and not count_rows(fit["x"])):
        raise ValueError(
            f"{search.name}.run: argument `x` must hold data to train on. "
            f"Received: x={None if 'x' not in fit else 'no rows'}"
        )
    split = fit.pop("validation_split", None)
    if split and "validation_data" not in fit:
        arrays, last = split_validation([fit.get(name) for name in ARRAYS], split)
        fit |= {name: part for name, part in zip(ARRAYS, arrays, strict=True) if part is not None}
        fit["validation_data"] = tuple(part for part in last if part is not None)
    return fit if share is None else _cut(fit, share)


def check_readable_twice(name: str, data: Any, search: Search = SWEEP) -> None:
    """Refuse data that the first trial would use up.

    Raises:
        ValueError: If the data can be read only once.
    """
    if data is None or are_arrays(data):
        return
    parts = data if isinstance(data, tuple | list) else [data]
    if any(inspect.isgenerator(part) or hasattr(part, "__next__") for part in parts):
        raise ValueError(
            f"{search.name}.run: argument `{name}` must be data that can be read again, because "
            "every trial reads them from the start: arrays, a keras.utils.PyDataset or a "
            f"tf.data.Dataset. Received: {name}={data!r}, which can be read once"
        )


def _cut(fit: dict[str, Any], share: float) -> dict[str, Any]:
    if not are_arrays(fit["x"]):
        raise ValueError(
            "LRSweep: argument `subset` needs arrays or tensors, of which it takes some rows. "
            f"Received: subset={share}, with x of type {type(fit['x']).__name__}"
        )
    order = np.random.default_rng(SUBSET_SEED).permutation(count_rows(fit["x"]))
    return subset(fit, share, order)
