"""`LayerRates`: different learning rates for parts of a model, which may be frozen for a while."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np

from keras_lr._fields.kinds import (
    Number,
    OptimizerReference,
    Optional,
    check,
    check_optimizer_is_named,
)
from keras_lr._fields.lengths import parse_length
from keras_lr._fields.serialization import decode, encode
from keras_lr._fields.timeline import Timeline, UnresolvedLength
from keras_lr._fit.session import FitSession
from keras_lr._fit.tracks import HyperparameterTrack, Source
from keras_lr._hints import with_hints
from keras_lr._keras.fits.fit_data import build_model_in_fit
from keras_lr._keras.rates.layer_updates import (
    Freezing,
    LayerFactor,
    LayerUpdates,
    MissedUpdates,
    VariableGroup,
)
from keras_lr._keras.rates.optimizers import optimizers_of, trained_variables
from keras_lr.callback import LearningRateCallback
from keras_lr.callbacks.layer_fields import BlocksField, FactorField, FactorsField, key_of
from keras_lr.callbacks.layer_groups import (
    DEFAULT,
    Group,
    LayerRow,
    LayerTable,
    group_by_blocks,
    group_by_patterns,
    moving_factors,
    warn_of_unreached,
)
from keras_lr.schedules import Constant
from keras_lr.schedules.base import Schedule
from keras_lr.schedules.control import start_schedule
from keras_lr.schedules.evaluation import ScheduleEvaluator, ZeroCounter


@keras.saving.register_keras_serializable(package="keras_lr")
class LayerRates(LearningRateCallback):
    """Multiply the learning rate of each part of a model by its own factor.

    The rate itself is decided as usual: by another schedule in the fit, by a plateau, or by the
    number in the optimizer. A group of variables trains at ``rate * factor``, and its weight decay
    shrinks with it, exactly as if the group had its own optimizer with that rate.

    A factor is a number, or a schedule, which moves in each step. While it is 0 the group is
    frozen: its weights, their momenta and averages stay as they are, as with
    ``layer.trainable = False``, but nothing has to be compiled again. (``BatchNormalization`` still
    updates its statistics: only ``trainable`` stops that.) After that the group trains as if it had
    just been made trainable: Adam counts the group's own updates.

    A key of ``factors`` is the path of a variable, with or without the model's name; or else a
    regular expression for whole paths, as in Keras's ``OptimizerMap``; or else a layer (its name,
    its path or the object), with everything inside it. `table` shows the resulting groups.

    ``history`` has a column for each group, such as ``learning_rate_backbone``: the rate of the
    group's updates. The logs at the end of each epoch have it too.

    Args:
        factors: The factor of each part of the model: a number of at least 0, or a schedule of
            factors in its own lengths.
        default: The factor of all other variables: a number or a schedule.
        optimizer: The optimizer whose rate the factors multiply, or the name of the attribute of
            the model that holds it, which also works in a config; by default ``model.optimizer``,
            and all optimizers that it is made of.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a factor is negative; at the start of training, if a key matches no variable,
            two keys match the same one, or every variable is frozen for good.
        RuntimeError: At the start of training, if the optimizer is not one of Keras 3, or updates
            its variables in its own way.

    Source: parameter groups of PyTorch; Howard & Ruder 2018, Universal Language Model Fine-tuning
    (arXiv:1801.06146), sec. 3.2, for discriminative rates and gradual unfreezing.

    >>> import keras
    >>> import numpy as np
    >>> from keras_lr import CosineDecay
    >>> backbone = keras.layers.Dense(8, name="backbone")
    >>> x = keras.Input((4,))
    >>> model = keras.Model(x, keras.layers.Dense(1, name="head")(backbone(x)))
    >>> model.compile("sgd", "mse")
    >>> rates = LayerRates({"backbone": 0.1})
    >>> rates.table(model)
    variable         group     factor
    backbone/kernel  backbone     0.1
    backbone/bias    backbone     0.1
    head/kernel      default        1
    head/bias        default        1
    >>> x, y = np.ones((32, 4)), np.ones((32, 1))
    >>> fit = model.fit(x, y, batch_size=8, verbose=0, callbacks=[CosineDecay(0.01), rates])
    >>> rates.history.learning_rate.round(4)
    array([0.01  , 0.0085, 0.005 , 0.0015], dtype=float32)
    >>> rates.history["learning_rate_backbone"].round(5)
    array([0.001  , 0.00085, 0.0005 , 0.00015], dtype=float32)
    """

    @with_hints
    def __init__(self, factors: Any, default: Any = 1.0, optimizer: Any = None) -> None:
        super().__init__()
        self.factors: dict[str, Any] = check("LayerRates", "factors", FactorsField(), factors)
        self.default = check("LayerRates", "default", FactorField(), default)
        self._set_optimizer(optimizer)

    def _set_optimizer(self, optimizer: Any) -> None:
        kind = Optional(OptimizerReference())
        parts = hasattr(optimizer, "optimizers")  # a MultiOptimizer has no learning rate
        self.optimizer = optimizer if parts else check("LayerRates", "optimizer", kind, optimizer)
        self._present: dict[str, tuple[int, float]] = {}

    @classmethod
    def decay(cls, factor: float, blocks: str, optimizer: Any = None) -> LayerDecay:
        r"""Return factors that fall by ``factor`` with each block, from the top of a model down.

        Of n blocks the last has ``factor``, the one below it ``factor ** 2``, and the first
        ``factor ** n``. The variables after the blocks in ``model.trainable_variables`` are the
        head and have 1. Those before the blocks, such as embeddings, have ``factor ** (n + 1)``.

        Args:
            factor: The factor from one block to the one below it; above 0, at most 1.
            blocks: Regular expression that finds a block's number in the paths of its variables.
                With several numbers, such as a stage and a block, they count in that order.
            optimizer: As for `LayerRates`.

        Raises:
            ValueError: If ``factor`` is out of range or ``blocks`` is not an expression with a
                number; at the start of training, if no path has a block.

        Source: Clark et al. 2020, ELECTRA (arXiv:2003.10555), and ``layer_decay`` of timm, which
        counts the norm after a transformer's last block as part of that block.

        >>> LayerRates.decay(0.75, blocks=r"block_?(\d+)")
        LayerRates.decay(0.75, blocks='block_?(\\d+)')
        """
        return LayerDecay(factor, blocks, optimizer)

    @classmethod
    def thaw(
        cls, groups: Sequence[Any], every: float | str = 1, optimizer: Any = None
    ) -> LayerRates:
        """Return factors that thaw one group after another.

        The first group trains from the start, the second after ``every``, and so on. Variables in
        no group stay frozen.

        Args:
            groups: The parts of the model, as the keys of `LayerRates`, in the order in which they
                thaw: from the head down.
            every: Length from one thaw to the next: epochs, ``"N steps"``, ``"N epochs"`` or
                ``"P%"``.
            optimizer: As for `LayerRates`.

        Raises:
            TypeError: If ``groups`` is not a list.
            ValueError: If ``groups`` is empty or has a part twice, or ``every`` is not a length.

        Source: Howard & Ruder 2018, Universal Language Model Fine-tuning (arXiv:1801.06146),
        sec. 3.3, gradual unfreezing.

        >>> LayerRates.thaw(["head", "block_2"], every=3)
        LayerRates({'head': 1.0, 'block_2': Sequence(stages=(Lasting(schedule=Constant(lr=0.0),
        over='3 epochs'), Constant(lr=1.0)))}, default=0.0)
        """
        if isinstance(groups, str | Mapping) or not isinstance(groups, Iterable):
            raise TypeError(
                "LayerRates.thaw: argument `groups` must be a list of the parts of the model, such "
                f"as ['head', 'block_2']. Received: groups={groups!r}"
            )
        keys = [key_of(group) for group in groups]
        if not keys or len(set(keys)) < len(keys):
            raise ValueError(
                "LayerRates.thaw: argument `groups` must name at least one part, and each once. "
                f"Received: groups={groups!r}"
            )
        try:
            amount, unit = parse_length(every)
            if unit == "rest" or not amount > 0:
                raise ValueError("a length")
        except (TypeError, ValueError):
            raise ValueError(
                "LayerRates.thaw: argument `every` must be a positive length: 1 (epochs), "
                f"'2000 steps' or '10%'. Received: every={every!r}"
            ) from None
        sign = "%" if unit == "%" else f" {unit}"
        factors: dict[str, Any] = {keys[0]: 1.0}
        for number, key in enumerate(keys[1:], start=1):
            frozen = Constant(0.0).lasting(f"{number * amount:.15g}{sign}")
            factors[key] = frozen >> Constant(1.0)
        return LayerRates(factors, 0.0, optimizer)

    # In a fit ------------------------------------------------------------------------------------

    def group(self, model: Any, variables: Sequence[Any]) -> list[Group]:
        """Return the groups of a model's trained variables."""
        return group_by_patterns(model, variables, self.factors, self.default)

    def table(self, model: Any) -> LayerTable:
        """Return a table of a model's trained variables, with the group and factor of each.

        The factors are those of the last update of this callback's last fit; before a fit, those of
        the first update.

        Args:
            model: A built and compiled model.

        Raises:
            ValueError: As at the start of training, or if the model is not built.
        """
        variables = self._variables(model, optimizers_of(model, self.optimizer))
        return LayerTable(
            LayerRow(getattr(variable, "path", variable.name), group.name, self._factor_now(group))
            for group in self.group(model, variables)
            for variable in group.variables
        )

    def _variables(self, model: Any, optimizers: list[Any]) -> list[Any]:
        """Return the variables that the optimizers train, in the order of the model's."""
        known = {id(one) for optimizer in optimizers for one in trained_variables(optimizer)}
        variables = model.trainable_variables
        if not variables:
            raise ValueError(
                f"LayerRates: the model {model.name!r} has no trainable variables yet. Give it "
                "an Input, or call it on a batch first."
            )
        return [one for one in variables if id(one) in known] or list(variables)

    def _factor_now(self, group: Group) -> float:
        if not isinstance(group.factor, Schedule):
            return float(group.factor)
        if group.name in self._present:
            return self._present[group.name][1]
        try:
            return float(group.factor(0, group.factor.timeline or Timeline(1, 1)))
        except UnresolvedLength:
            return float("nan")

    def held_at(self, step: int, timeline: Timeline) -> LayerRates:
        """Return a callback that holds the factors of one step.

        Raises:
            UnresolvedLength: If a length in a schedule needs more than ``timeline`` says.
        """

        def held(factor: Any) -> float:
            return float(factor(step, timeline) if isinstance(factor, Schedule) else factor)

        factors = {key: held(factor) for key, factor in self.factors.items()}
        return LayerRates(factors, held(self.default), self.optimizer)

    def join_fit(self, session: FitSession) -> None:
        self._session = session
        self._tracks: list[HyperparameterTrack] = []
        # Later, when the model is built.
        session.events.on_fit_start.append(functools.partial(self._control, session))

    def _control(self, session: FitSession, epoch: int) -> None:
        """Control the factors in the fit that begins."""
        model = build_model_in_fit(session.model)
        optimizers = optimizers_of(model, self.optimizer)
        for track in session.tracks:
            if isinstance(track.parameter, LayerFactor) and any(
                one is track.parameter.optimizer for one in optimizers
            ):
                raise ValueError(
                    f"Two callbacks give rates to the layers of the same optimizer: "
                    f"{track.owner!r} and {self!r}. Put all factors into one LayerRates, or give "
                    "each its own optimizer with LayerRates(optimizer=...)."
                )
        groups = self.group(model, self._variables(model, optimizers))
        if all(_freezing(group.factor) is Freezing.ALWAYS for group in groups):
            raise ValueError(
                f"{self!r} freezes every variable of the model for good, so that nothing trains."
            )
        for group in groups:
            if isinstance(group.factor, Schedule):
                group.factor.timeline = session.timeline
        warn_of_unreached(groups, session.timeline)
        self._present = {
            group.name: (len(group.variables), self._factor_now(group)) for group in groups
        }
        for optimizer in optimizers:
            self._control_optimizer(session, optimizer, groups, epoch)

    def _control_optimizer(
        self, session: FitSession, optimizer: Any, groups: list[Group], epoch: int
    ) -> None:
        known = {id(one) for one in trained_variables(optimizer)}
        parts = []
        for group in groups:
            own = tuple(one for one in group.variables if not known or id(one) in known)
            if own and not (group.name == DEFAULT and group.factor == 1.0):
                parts.append(Group(group.name, own, group.factor))
        updates = LayerUpdates(
            optimizer,
            [VariableGroup(part.name, part.variables, _freezing(part.factor)) for part in parts],
        )
        for index, part in enumerate(parts):
            parameter = LayerFactor(updates, index)
            if not isinstance(part.factor, Schedule):
                self._tracks.append(session.control(self, parameter, _always(part.factor)))
                continue
            evaluator = ScheduleEvaluator(part.factor, session.timeline, session)
            self._tracks.append(session.control(self, parameter, evaluator.values))
            counter = ZeroCounter(ScheduleEvaluator(part.factor, session.timeline, session))
            session.control(self, MissedUpdates(updates, index), counter.values)
            start_schedule(part.factor, session, parameter, epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        for track in self._tracks:
            if isinstance(track.parameter, LayerFactor):
                name = track.parameter.group.name
                count = self._present[name][0]
                self._present[name] = count, self._session.last_value(track)

    # Config and display ---------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain data.

        Raises:
            ValueError: If ``optimizer`` is an object rather than the name of an attribute.
        """
        factors = {key: encode(factor) for key, factor in self.factors.items()}
        return {"factors": factors, "default": encode(self.default), **self._optimizer_config()}

    def _optimizer_config(self) -> dict[str, Any]:
        check_optimizer_is_named("LayerRates", self.optimizer)
        return {"optimizer": self.optimizer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the callback from what `get_config` returned."""
        factors = {key: decode(factor) for key, factor in config["factors"].items()}
        return cls(factors, decode(config["default"]), config["optimizer"])

    def arguments(self) -> dict[str, Any]:
        """Return the arguments with which the callback was built, by name."""
        return {"factors": self.factors, "default": self.default, "optimizer": self.optimizer}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.arguments() == other.arguments()

    def __hash__(self) -> int:
        return hash((type(self), *map(repr, self.arguments().values())))

    def _written(self) -> str:
        """Return the source of a call that builds an equal callback."""
        shown = [repr(self.factors)]
        if self.default != 1.0:
            shown.append(f"default={self.default!r}")
        if self.optimizer is not None:
            shown.append(f"optimizer={self.optimizer!r}")
        return f"LayerRates({', '.join(shown)})"

    def __repr__(self) -> str:
        groups = (
            f"{name}: {count} variable{'s' * (count != 1)} at {factor:.6g}"
            for name, (count, factor) in self._present.items()
        )
        return f"{self._written()} [{'; '.join(groups)}]" if self._present else self._written()

    def _repr_html_(self) -> str | None:
        """Return small curves of the moving factors; if none moves, the record of the last fit."""
        moving = moving_factors(self.factors, self.default)
        if not moving:
            return super()._repr_html_()
        from keras_lr._fields.preview import describe_curves

        curves = {f"factor of {name}": factor for name, factor in moving.items()}
        return describe_curves(self, curves, next(iter(moving.values())).timeline)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **self.arguments(), "_present": self._present}


@keras.saving.register_keras_serializable(package="keras_lr")
class LayerDecay(LayerRates):
    r"""Multiply the rate of each numbered block by a power of a factor: `LayerRates.decay`.

    Args:
        factor: The factor from one block to the one below it; above 0, at most 1.
        blocks: Regular expression that finds a block's number in the paths of its variables.
        optimizer: The optimizer, or the name of the model's attribute that holds it.

    >>> LayerDecay(0.75, blocks=r"block_?(\d+)")
    LayerRates.decay(0.75, blocks='block_?(\\d+)')
    """

    @with_hints
    def __init__(self, factor: float, blocks: str, optimizer: Any = None) -> None:
        """See `LayerRates.decay`."""
        LearningRateCallback.__init__(self)
        owner = "LayerRates.decay"
        self.factor = check(owner, "factor", Number(above=0.0, maximum=1.0), factor)
        self.blocks = check(owner, "blocks", BlocksField(), blocks)
        self._set_optimizer(optimizer)

    def group(self, model: Any, variables: Sequence[Any]) -> list[Group]:
        return group_by_blocks(model, variables, self.blocks, self.factor)

    def held_at(self, step: int, timeline: Timeline) -> LayerRates:
        return LayerDecay(**self.arguments())

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "blocks": self.blocks, **self._optimizer_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def arguments(self) -> dict[str, Any]:
        return {"factor": self.factor, "blocks": self.blocks, "optimizer": self.optimizer}

    _repr_html_ = LearningRateCallback._repr_html_  # its factors are numbers

    def _written(self) -> str:
        own = "" if self.optimizer is None else f", optimizer={self.optimizer!r}"
        return f"LayerRates.decay({self.factor!r}, blocks={self.blocks!r}{own})"


def _freezing(factor: Any) -> Freezing:
    """Return when a factor freezes its group."""
    if isinstance(factor, Schedule):
        return Freezing.SOMETIMES
    return Freezing.NEVER if factor > 0.0 else Freezing.ALWAYS


def _always(factor: float) -> Source:
    """Return the source of a constant factor."""
    return lambda first, count: np.full(count, factor)
