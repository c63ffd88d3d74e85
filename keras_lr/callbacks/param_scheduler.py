"""`ParamScheduler`: schedules for any hyperparameter of any of a model's optimizers."""

from __future__ import annotations

from typing import Any, Self

import keras

from keras_lr._fields.kinds import check, check_optimizer_is_named
from keras_lr._fields.serialization import decode, encode
from keras_lr._fit.session import FitSession
from keras_lr._keras.rates.optimizers import optimizer_of
from keras_lr.callback import LearningRateCallback
from keras_lr.schedules.base import Schedule, ScheduleField
from keras_lr.schedules.control import before_restore, control


@keras.saving.register_keras_serializable(package="keras_lr")
class ParamScheduler(LearningRateCallback):
    """Move several hyperparameters of an optimizer, each by a schedule.

    Keras compiles ``momentum``, ``beta_1``, ``weight_decay`` and the like into the training step as
    constants, so that setting them during a fit has no effect. ``ParamScheduler`` moves them inside
    the step. Outside the step the attributes of the optimizer keep the numbers that it was built
    with.

    Args:
        optimizer: The optimizer, or the name of the attribute of the model that holds it, which
            also works in a config; by default ``model.optimizer``.
        **schedules: A schedule for each hyperparameter: ``learning_rate``, ``momentum``,
            ``beta_1``, ``beta_2``, ``weight_decay``, ``rho``, or another number of the optimizer.
            They share one clock; each has its own lengths.

    Raises:
        TypeError: If a value is not a schedule, or a schedule is passed as the optimizer.
        ValueError: If there is no schedule, or at the start of training the optimizer has no such
            number (the message lists those that it has), or a value is outside of its range:
            momentum, ``beta_1``, ``beta_2`` and ``rho`` are at least 0 and below 1; learning rate
            and weight decay are not negative.

    >>> from keras_lr import CosineDecay, LinearDecay
    >>> ParamScheduler(learning_rate=CosineDecay(0.1), momentum=LinearDecay(0.95, 0.85))
    ParamScheduler(learning_rate=CosineDecay(initial_lr=0.1), momentum=LinearDecay(initial_lr=0.95,
    final_lr=0.85))
    """

    def __init__(self, optimizer: Any = None, **schedules: Schedule) -> None:
        """See the class."""
        super().__init__()
        if isinstance(optimizer, Schedule):
            raise TypeError(
                "ParamScheduler: the first argument is an optimizer; name what a schedule moves: "
                f"ParamScheduler(learning_rate=...). Received: {optimizer!r}"
            )
        if not schedules:
            raise ValueError(
                "ParamScheduler: at least one schedule must be given, such as "
                "ParamScheduler(momentum=LinearDecay(0.95, 0.85)). Received: none"
            )
        self.optimizer = optimizer
        self.schedules = {
            name: check("ParamScheduler", name, ScheduleField(), value)
            for name, value in schedules.items()
        }

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        before_restore(self.schedules, model, self.optimizer)

    def join_fit(self, session: FitSession) -> None:
        control(session, self, optimizer_of(session.model, self.optimizer), self.schedules)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain data.

        Raises:
            ValueError: If ``optimizer`` is an object; pass the name of the model's attribute
                instead.
        """
        check_optimizer_is_named("ParamScheduler", self.optimizer)
        own = {} if self.optimizer is None else {"optimizer": self.optimizer}
        return own | {name: encode(schedule) for name, schedule in self.schedules.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the callback from what `get_config` returned."""
        return cls(**{name: decode(value) for name, value in config.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParamScheduler):
            return NotImplemented
        return self.optimizer == other.optimizer and self.schedules == other.schedules

    def __hash__(self) -> int:
        return hash(tuple(self.schedules.items()))

    def __repr__(self) -> str:
        own = [] if self.optimizer is None else [f"optimizer={self.optimizer!r}"]
        shown = own + [f"{name}={schedule!r}" for name, schedule in self.schedules.items()]
        return f"ParamScheduler({', '.join(shown)})"

    def _repr_html_(self) -> str | None:
        """Return small curves of the last fit, or of the schedules before any fit."""
        record = super()._repr_html_()
        if record is not None:
            return record
        from keras_lr._fields.preview import describe_curves

        curves = {name.replace("_", " "): one for name, one in self.schedules.items()}
        return describe_curves(self, curves, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "optimizer": self.optimizer, "schedules": self.schedules}
