"""`Problem`: everything that determines a trial's results, apart from its own description."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_lr._hints import with_article
from keras_lr._keras.fits.fit_data import (
    ARRAYS,
    are_arrays,
    batch_size_of,
    count_rows,
    rows_of_all_shapes,
    take_rows,
)
from keras_lr._keras.rates.optimizers import held_optimizers, schedule_of
from keras_lr._keras.state.random_state import set_seed
from keras_lr._keras.whole_epochs.data import EpochData
from keras_lr.search.trials.description import Group, Trial
from keras_lr.search.trials.target import Target

Build = Callable[[Any], Any]
"""A function of an optimizer that returns a compiled model."""

Schedules = Callable[[Any], keras.callbacks.Callback]
"""A function of the position of a trial, such as its rate, that returns the driving callback."""

Callbacks = Sequence[keras.callbacks.Callback] | Callable[[Trial], Sequence[Any]]

DATA = (*ARRAYS, "validation_data")
"""Arguments of ``fit`` that hold data."""

READ_BY_EPOCHS = (*ARRAYS, "class_weight", "batch_size", "shuffle")
"""Arguments of ``fit`` that determine what a training run by whole epochs reads."""


class BuildFailed(Exception):
    """Raised if the user's ``build`` has raised; the message says what."""


class Search(NamedTuple):
    """Names of a search, for messages."""

    name: str
    """Name of the class."""
    noun: str
    """What kind of search it is."""
    schedules: str = ""
    """How to train with a schedule: a sentence with a space before it, or nothing."""
    forgetting: str = ""
    """What no callback may do if trials are trained in stretches, why, and what to do instead."""
    shares_files: bool = False
    """Whether trials copy one another, so that no file belongs to one of them alone."""


SWEEP = Search(
    "LRSweep",
    "sweep",
    " To sweep a schedule, pass LRSweep(schedule=lambda lr: ...).",
    "remembers earlier epochs: with halving, a trial continues with new callbacks after each "
    "comparison, and these would begin again. Leave halving out, or the callback.",
)


@dataclasses.dataclass(frozen=True)
class Problem:
    """The models to train, and the data to train them on.

    Attributes:
        builds: The function that builds the model, by the name of its size.
        optimizers: The unbuilt optimizers, by the names that the sweep uses for them.
        fit: Arguments of ``fit``, including the data, without ``epochs`` and ``callbacks``.
        epochs: Epochs of a trial that is trained to its end.
        monitor: Name of the logged value by which trials are compared.
        mode: Whether less of it is better: ``"min"``, ``"max"`` or ``"auto"``.
        target: The target that ends a trial early, if there is one.
        schedule: Function that makes the driving callback; None for a constant rate.
        callbacks: Further callbacks of each trial.
        test_data: Data on which a trial is evaluated at its end, and that influence nothing.
        search: The search to which the trials belong.
        in_stretches: Whether trials are trained in stretches, each with new callbacks.
    """

    builds: Mapping[str, Build]
    optimizers: Mapping[str, keras.optimizers.Optimizer]
    fit: Mapping[str, Any]
    epochs: int
    monitor: str
    mode: str = "auto"
    target: Target | None = None
    schedule: Schedules | None = None
    callbacks: Callbacks = ()
    test_data: tuple[Any, ...] | None = None
    search: Search = SWEEP
    in_stretches: bool = False

    @property
    def groups(self) -> list[Group]:
        """All pairs of a size and an optimizer, sizes first."""
        return [Group(size, optimizer) for size in self.builds for optimizer in self.optimizers]

    @property
    def compared(self) -> dict[str, str]:
        """The names that an epoch has to log, by the argument that asks for them."""
        names = {"monitor": self.monitor}
        return names if self.target is None else names | {"until": self.target.name}

    @property
    def evaluation_batch_size(self) -> int | None:
        """Batch size of an evaluation; None for Keras's default."""
        return self.fit.get("validation_batch_size") or self.fit.get("batch_size")

    @functools.cached_property
    def epoch_data(self) -> EpochData:
        """The data to train on by whole epochs.

        Raises:
            NeedsFit: If only ``fit`` can read them.
        """
        given = {name: self.fit[name] for name in READ_BY_EPOCHS if name in self.fit}
        return EpochData(**{"shuffle": True} | given)

    @functools.cached_property
    def epoch_validation(self) -> EpochData | None:
        """The data to validate on by whole epochs.

        Raises:
            NeedsFit: If only ``fit`` can read them.
        """
        if self.fit.get("validation_data") is None:
            return None
        x, y, weights = keras.utils.unpack_x_y_sample_weight(self.fit["validation_data"])
        return EpochData(x=x, y=y, sample_weight=weights, batch_size=self.evaluation_batch_size)

    def build(self, group: Group, seed: int, keep_kernels: bool = False) -> Any:
        """Return a new model with the initial weights of a seed.

        It equals that of a program that calls ``keras.utils.set_random_seed(seed)``, then
        ``build``.

        Raises:
            BuildFailed: If the user's function raises.
            TypeError: If it does not return a model.
            ValueError: If the model cannot be swept.
        """
        given = copy_unbuilt(self.optimizers[group.optimizer])
        set_seed(seed, keep_kernels)
        try:
            model = self.builds[group.size](given)
        except Exception as error:
            raise BuildFailed(f"build raised {type(error).__name__}: {error}") from error
        _check_model(model, given, group, self.search)
        return model

    def driver_of(self, trial: Trial) -> list[Any]:
        """Return a list of a new callback that drives the rate of a trial, if there is one."""
        return [self.schedule(trial.position)] if self.schedule else []

    def callbacks_of(self, trial: Trial) -> list[Any]:
        """Return new callbacks for a trial, without the one that drives the rate."""
        if callable(self.callbacks):
            return list(self.callbacks(trial))
        return copy.deepcopy(list(self.callbacks))

    def short_fit(self) -> dict[str, Any] | None:
        """Return arguments of a short ``fit`` that compiles everything that a trial runs.

        It has a full batch, and also a short one if the data end in one.

        Returns:
            The arguments; None if the data cannot be cut.
        """
        fit = dict(self.fit)
        if not are_arrays(fit["x"]) or fit.get("steps_per_epoch"):
            return None
        size = batch_size_of(fit)
        fit |= dict(zip(ARRAYS, first_rows([fit.get(name) for name in ARRAYS], size), strict=True))
        data = fit.get("validation_data")
        if data is not None:
            if not are_arrays(list(data)) or fit.get("validation_steps"):
                return None
            size = fit.get("validation_batch_size") or size
            fit["validation_data"] = tuple(first_rows(list(data), size))
        return fit


def first_rows(arrays: list[Any], batch_size: int) -> list[Any]:
    """Return the first rows of arrays: a full batch, and a short one if the last batch is short."""
    return take_rows(arrays, slice(0, rows_of_all_shapes(count_rows(arrays), batch_size)))


def subset(fit: Mapping[str, Any], share: float, order: Any) -> dict[str, Any]:
    """Return the arguments of ``fit`` with a share of the rows, and of the steps if they are given.

    Args:
        fit: Arguments of ``fit``.
        share: Share of the rows.
        order: All rows, in the order in which to take them.
    """
    rows = order[: max(1, math.ceil(share * len(order)))]
    arrays = take_rows([fit.get(name) for name in ARRAYS], rows)
    cut = {**fit, **dict(zip(ARRAYS, arrays, strict=True))}
    if fit.get("steps_per_epoch"):
        cut["batch_size"] = batch_size_of(dict(fit))
        cut["steps_per_epoch"] = max(1, math.ceil(share * fit["steps_per_epoch"]))
    return cut


def copy_unbuilt(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return a new optimizer with the arguments of another one."""
    return type(optimizer).from_config(optimizer.get_config())


def _check_model(model: Any, given: Any, group: Group, search: Search) -> None:
    """Refuse what ``build`` returned unless it is a model compiled with the given optimizer."""
    name = f"{search.name}.run: build (for {group})"
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{name} must return a compiled Keras model. Received: {model!r}, "
            f"{with_article(type(model).__name__)}"
        )
    found = getattr(model, "optimizer", None)
    if found is None or not model.compiled:
        raise ValueError(
            f"{name} must return a compiled model: call model.compile(optimizer, "
            f"loss) in it. Received: the model {model.name!r}, which is not compiled"
        )
    if schedule_of(found) is not None:
        raise ValueError(
            f"{name} returned a model whose optimizer has a learning rate schedule, so that the "
            f"{search.noun} cannot set its rate. Compile the model with the optimizer as it is "
            f"given.{search.schedules}"
        )
    if all(one is not given for one in (found, *held_optimizers(model).values())):
        raise ValueError(
            f"{name} must compile the model with the optimizer that it is given. "
            f"Received: a model with another optimizer, {with_article(type(found).__name__)}"
        )
