"""`Schedule`: a formula that is a Keras callback, and the operators that combine schedules."""

from __future__ import annotations

import functools
import math
import re
import textwrap
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lr._fields.configurable import Configurable, configurable
from keras_lr._fields.kinds import FieldType, ListOf, Number, check
from keras_lr._fields.timeline import Timeline
from keras_lr._fit.session import FitSession
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE
from keras_lr._keras.rates.optimizers import optimizer_of
from keras_lr.callback import LearningRateCallback
from keras_lr.schedules.control import before_restore, control
from keras_lr.schedules.formulas import describe_bound, find_no_rate
from keras_lr.schedules.in_graph import InGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_lr.schedules import combinators

Steps = NDArray[np.float64]

CACHED = 1 << 15
"""Number of steps that are evaluated at once for a whole curve, so that they fit into the cache."""

MAX_VALUES = 1 << 36
"""Largest number of values that `Schedule.values` puts into an array."""

_DIGITS = re.compile(r"\d+\.\d{8,}(e[+-]?\d+)?")
"""A number with more digits than a title needs."""

DurationKind = Literal["own", "rest", "never"]
S = TypeVar("S", bound=type)


@dataclass_transform(eq_default=False)
def schedule(cls: S) -> S:
    """Turn a class of fields and a formula into a schedule, as in every shape of this package.

    >>> from keras_lr.schedules import Length, Rate
    >>> @schedule
    ... class HalfCosine(Schedule):
    ...     '''Fall from ``initial_lr`` to zero.'''
    ...
    ...     initial_lr: Rate
    ...     over: Length = "rest"
    ...
    ...     def value(self, step, timeline):
    ...         return self.initial_lr * np.cos(np.pi / 2 * timeline.progress(step, self.over))
    >>> HalfCosine(1.0).values(epochs=1, steps_per_epoch=3).round(3)
    array([1.   , 0.866, 0.5  ])
    """
    for name in cls.__annotations__:
        if callable(getattr(Schedule, name, None)):
            raise TypeError(
                f"{cls.__name__}: a field cannot be called {name!r}, which is a method of "
                "Schedule. Choose another name and map it to the argument: "
                f"arguments = {{field: {name!r}}}"
            )
    return configurable(cls, depth=2)


class Schedule(Configurable, LearningRateCallback):
    """A learning rate as a function of the training step, and the callback that applies it.

    ``t`` is 0 at the first update, and the value at ``t`` is the rate of update ``t``. A fit starts
    at ``initial_epoch * steps_per_epoch``. If the number of steps in an epoch is not known (a
    generator without a length), lengths in epochs move at the boundaries of epochs.

    A subclass is a class of fields under `keras_lr.schedules.schedule`, with `value`.

    >>> from keras_lr import CosineDecay, LinearDecay
    >>> rate = LinearDecay(0.0, 0.1, over=1) >> CosineDecay(0.1)
    >>> rate.values(epochs=3, steps_per_epoch=2).round(4)
    array([0.    , 0.05  , 0.1   , 0.0854, 0.05  , 0.0146])
    """

    may_exceed: bool = False
    """Whether values may leave the range of a rate although those of all parts are in it."""

    timeline: Timeline | None = None
    """The fit that lengths refer to: the last one, or one that you set; None before any fit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Cache both now: the parts have cached theirs, so nothing recurses.
        _ = self.duration_kind, self.is_empty

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _ = self.duration_kind, self.is_empty

    def value(self, step: Steps, timeline: Timeline) -> Steps | float:
        """Return the rate at ``step``.

        Args:
            step: Steps since this schedule began, as a float array; elementwise.
            timeline: The timeline, which turns lengths into steps.
        """
        raise NotImplementedError

    @property
    def duration_kind(self) -> DurationKind:
        """Whether the schedule has its ``own`` length, takes the ``rest``, or ``never`` ends."""
        over = getattr(self, "over", None)
        return "never" if over is None else "rest" if over == "rest" else "own"

    @property
    def value_bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest value, where they are known without any evaluation."""
        return None

    @property
    def is_empty(self) -> bool:
        """Whether the schedule has a length of 0, so that a sequence leaves it out."""
        return False

    def length(self, timeline: Timeline) -> float:
        """Return how many steps the schedule takes; infinity if it never ends."""
        over = getattr(self, "over", None)
        return math.inf if over is None else timeline.steps(over)

    def hyperparameter_schedules(self, optimizer: Any) -> dict[str, Schedule]:
        """Return the schedule of each hyperparameter that this callback moves."""
        return {LEARNING_RATE: self}

    def unreached_stages(self, timeline: Timeline) -> list[str]:
        """Return what the part ends before: stages that begin, cycles that reach their peak."""
        return []

    def stage_starts(self, timeline: Timeline) -> list[float]:
        """Return the steps at which stages of the schedule begin, in no particular order."""
        return []

    def __call__(self, step: ArrayLike | None = None, timeline: Timeline | None = None) -> Any:
        """Return the rate at one step or at an array of steps, for a training loop that you write.

        Args:
            step: Number of the update, from 0; a number or an array.
            timeline: The fit; not needed after a fit, after setting `timeline`, or where every
                length is given in steps.

        Returns:
            A float, or a float64 array of the shape of ``step``.

        Raises:
            TypeError: If there is no step, as when an optimizer calls its learning rate.
            ValueError: If a step is negative or not a number, or the second argument is not a
                `Timeline`: ``keras.callbacks.LearningRateScheduler`` passes epoch and rate.

        >>> from keras_lr import LinearDecay
        >>> LinearDecay(0.1, over="10 steps")(5)
        0.05
        """
        if not isinstance(timeline, Timeline | None):
            raise ValueError(
                f"{type(self).__name__} is a callback. Pass it to fit(callbacks=[...]) itself; a "
                "keras.callbacks.LearningRateScheduler around it would take the number of the "
                f"epoch for the training step. Received: timeline={timeline!r}"
            )
        if step is None:
            raise TypeError(
                f"{type(self).__name__} is a callback, and its rate needs a step. Build the "
                "optimizer with a number and pass the schedule to fit(callbacks=[...]); or give "
                "the optimizer the schedule's .in_graph(epochs=..., steps_per_epoch=...)."
            )
        steps = np.asarray(step, dtype=np.float64)
        if not (steps.min(initial=0.0) >= 0.0 and steps.max(initial=0.0) < math.inf):
            raise ValueError(
                "Argument `step` must count from 0, the first update, and be finite. "
                f"Received: step={step!r}"
            )
        timeline = timeline or self.timeline or Timeline()
        rates = np.empty(steps.shape)
        with np.errstate(over="ignore"):  # an infinite rate is refused when it is used
            rates.reshape(-1)[:] = self.value(steps.reshape(-1), timeline)
        return rates if steps.ndim else float(rates)

    def values(
        self, *, epochs: float | None = None, steps_per_epoch: float | None = None
    ) -> NDArray[np.float64]:
        """Return the whole curve: the rate of every update of a fit.

        Args:
            epochs: Epochs of the fit; by default those of the last one.
            steps_per_epoch: Batches in an epoch; by default those of the last fit.

        Returns:
            A float64 array of ``epochs * steps_per_epoch`` values.

        Raises:
            ValueError: If a number is not positive, or is missing and not known from a fit; or if a
                value cannot be a rate, because it is negative or beyond the range of float32.

        >>> from keras_lr import StepDecay
        >>> StepDecay(1.0, factor=0.5, every=1).values(epochs=3, steps_per_epoch=2)
        array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25])
        """
        epochs, steps_per_epoch = self._size(epochs, steps_per_epoch)
        timeline = Timeline(steps_per_epoch, epochs)
        count = math.ceil(min(timeline.total or 0.0, 2.0 * MAX_VALUES))
        if count > MAX_VALUES:
            raise ValueError(
                f"A curve of epochs={epochs:g} and steps_per_epoch={steps_per_epoch:g} has more "
                "values than an array holds. Call the schedule with some steps and a Timeline."
            )
        curve = np.empty(count)
        # As many epochs at a time as stay in the processor's cache.
        at_once = max(1, int(CACHED / steps_per_epoch))
        ahead = np.arange(min(math.ceil(at_once * steps_per_epoch), count), dtype=np.float64)
        with np.errstate(over="ignore"):  # an infinite rate is refused below
            for epoch in range(0, math.ceil(epochs), at_once):
                first = math.ceil(epoch * steps_per_epoch)
                last = min(math.ceil((epoch + at_once) * steps_per_epoch), count)
                curve[first:last] = self.value(ahead[: last - first] + first, timeline)
        where = find_no_rate(curve)
        if where is not None:
            raise ValueError(
                f"{self!r} gives the rate {curve[where]:g} at step {where}."
                f"{describe_bound(curve[where])}"
            )
        return curve

    def _size(self, epochs: float | None, steps_per_epoch: float | None) -> tuple[float, float]:
        """Return the size of a fit, by default that of the last one."""
        known, found = self.timeline or Timeline(), {}
        for name, value in {"epochs": epochs, "steps_per_epoch": steps_per_epoch}.items():
            value = getattr(known, name) if value is None else value
            if value is None:
                raise ValueError(
                    f"{type(self).__name__}: the curve needs `{name}`, and no fit has given it. "
                    "Pass epochs=... and steps_per_epoch=..."
                )
            found[name] = check(type(self).__name__, name, Number(above=0.0), value)
        return found["epochs"], found["steps_per_epoch"]

    def plot(
        self,
        *,
        epochs: float | None = None,
        steps_per_epoch: float | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw the whole curve and return the matplotlib axes.

        Args:
            epochs: Epochs of the fit; by default those of the last one.
            steps_per_epoch: Batches in an epoch; by default those of the last fit.
            ax: Axes to draw into; by default those of a new figure.
        """
        from keras_lr import plotting
        from keras_lr._fields.preview import without_addresses

        name = without_addresses(repr(self))
        name = _DIGITS.sub(lambda number: f"{float(number[0]):.6g}", name)
        simple = dict.fromkeys(type(p).__name__ for p in self.parts() if not p.direct_parts())
        if len(name) > 70 and self.direct_parts():
            name = f"{type(self).__name__} of {', '.join(simple)}"
        name = textwrap.shorten(name, 150, placeholder=" ...)")
        epochs, steps_per_epoch = self._size(epochs, steps_per_epoch)
        curve = self.values(epochs=epochs, steps_per_epoch=steps_per_epoch)
        return plotting.plot_curves({name: curve}, steps_per_epoch, ax=ax)

    def _repr_html_(self) -> str:
        """Return a small curve over the last fit, or over a fit that shows all parts."""
        from keras_lr._fields.preview import describe_curves

        return describe_curves(self, {"learning rate": self}, self.timeline)

    def in_graph(self, *, epochs: float, steps_per_epoch: float) -> InGraph:
        """Return the same curve as a Keras ``LearningRateSchedule``, to compile into an optimizer.

        Args:
            epochs: Epochs of the fit.
            steps_per_epoch: Batches in an epoch.

        >>> import keras
        >>> from keras_lr import LinearDecay
        >>> rate = LinearDecay(0.1).in_graph(epochs=2, steps_per_epoch=5)
        >>> optimizer = keras.optimizers.SGD(rate)
        >>> round(float(rate(5)), 3)
        0.05
        """
        return InGraph(self, epochs, steps_per_epoch)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        before_restore({LEARNING_RATE: self}, model)

    def join_fit(self, session: FitSession) -> None:
        optimizer = optimizer_of(session.model)
        control(session, self, optimizer, self.hyperparameter_schedules(optimizer))

    def __rshift__(self, other: Schedule | float) -> combinators.Sequence:
        """``a >> b`` or ``a >> 0.01``: first ``a``, for its length, then ``b``."""
        if isinstance(other, int | float | np.number):
            other = _classes().Constant(other)
        if not isinstance(other, Schedule):
            return NotImplemented
        return _classes().Sequence.of(self, other)

    def __mul__(self, other: Schedule | float) -> Schedule:
        """``a * b`` or ``a * 0.5``."""
        if isinstance(other, Schedule):
            return _classes().Product.of(self, other)
        return self.scale(other) if isinstance(other, int | float | np.number) else NotImplemented

    __rmul__ = __mul__

    def __add__(self, other: Schedule | float) -> combinators.Sum:
        """``a + b`` or ``a + 0.001``."""
        if isinstance(other, Schedule):
            return _classes().Sum.of(self, other)
        if not isinstance(other, int | float | np.number):
            return NotImplemented
        if other < 0:
            return self - -other
        return _classes().Sum.of(self, _classes().Constant(other))

    __radd__ = __add__

    def __sub__(self, other: Schedule | float) -> combinators.Sum:
        """``a - b`` or ``a - 0.001``."""
        if isinstance(other, Schedule):
            return _classes().Sum.of(self, minus=(other,))
        if not isinstance(other, int | float | np.number):
            return NotImplemented
        if other < 0:
            return self + -other
        return _classes().Sum.of(self, minus=(_classes().Constant(other),))

    def __rsub__(self, other: float) -> combinators.Sum:
        """``0.1 - a``."""
        if not isinstance(other, int | float | np.number):
            return NotImplemented
        return _classes().Sum.of(_classes().Constant(other), minus=(self,))

    def __truediv__(self, other: float) -> Schedule:
        """``a / 10``."""
        if not isinstance(other, int | float | np.number):
            return NotImplemented
        return self.scale(1.0 / other)

    def scale(self, factor: float) -> combinators.Scaled:
        """Return ``factor`` times this schedule."""
        return _classes().Scaled(self, factor)

    def warmup(
        self,
        over: float | int | str,
        start: float = 0.0,
        shape: str = "linear",
        shift: bool = True,
    ) -> combinators.Warmup:
        """Return a schedule that first rises from ``start`` to this one's first value.

        Args:
            over: Length of the warmup. It counts inside the whole.
            start: Rate of the first update.
            shape: ``"linear"``, ``"cosine"``, ``"sqrt"`` or ``"square"``.
            shift: Whether this schedule begins after the warmup; if not, it begins with it, and the
                warmup hides its first part.
        """
        return _classes().Warmup(self, over, start, shape, shift)

    def then(
        self, other: Schedule | float, after: float | int | str | None = None
    ) -> combinators.Sequence:
        """Return this schedule followed by another one, for a training run that is extended.

        Args:
            other: The schedule that follows; a number is a constant rate.
            after: Length of this schedule. By default its own length, or if it has none, that of
                the last fit.

        Raises:
            ValueError: If the length is known neither from the schedule nor from a fit.

        >>> from keras_lr import LinearDecay
        >>> LinearDecay(0.1).then(0.01, after=2).values(epochs=3, steps_per_epoch=2)
        array([0.1  , 0.075, 0.05 , 0.025, 0.01 , 0.01 ])
        """
        if after is None and self.duration_kind != "own":
            after = None if self.timeline is None else self.timeline.epochs
            if after is None:
                raise ValueError(
                    f"{type(self).__name__}.then: argument `after` must be the length of the "
                    "schedule, which neither it nor a fit has given. Received: after=None"
                )
        first = self if after is None else self.lasting(after)
        return first >> (other if isinstance(other, Schedule) else _classes().Constant(other))

    def lasting(self, over: float | int | str) -> combinators.Lasting:
        """Return this schedule with a length, to which its shares then refer."""
        return _classes().Lasting(self, over)

    def clip(self, min: float = 0.0, max: float | None = None) -> combinators.Clip:
        """Return this schedule held between ``min`` and ``max``."""
        return _classes().Clip(self, min, max)

    def repeat(self, times: int, stretch: float = 1.0, scale: float = 1.0) -> combinators.Repeat:
        """Return this schedule repeated, each time ``stretch`` as long and ``scale`` as high."""
        return _classes().Repeat(self, times, stretch, scale)

    def per_epoch(self) -> combinators.PerEpoch:
        """Return this schedule held within each epoch at the epoch's first value."""
        return _classes().PerEpoch(self)


@functools.cache
def _classes() -> Any:
    """Return the module with the classes of the operators, which derive from `Schedule`."""
    from keras_lr import schedules

    return schedules


class ScheduleField(FieldType):
    """A schedule."""

    expected = "a schedule, such as CosineDecay(0.1)"

    def convert(self, value: Any) -> Schedule:
        if not isinstance(value, Schedule):
            raise TypeError(self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/schedule"}


Inner = Annotated[Schedule, ScheduleField()]
"""A schedule."""

Inners = Annotated[tuple[Schedule, ...], ListOf(ScheduleField(), at_least=1)]
"""One or more schedules."""
