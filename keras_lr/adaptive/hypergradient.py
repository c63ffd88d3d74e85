"""`HypergradientDescent`: gradient descent on the rate as well as on the weights."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

import keras

from keras_lr._fields.configurable import configurable
from keras_lr._fields.kinds import Choice, Number, Optional, Path, PositiveRate
from keras_lr._hints import warn_user
from keras_lr._keras.gradients.rule import Decision, State, Tensor, Update
from keras_lr.adaptive.base import GradientRate
from keras_lr.adaptive.vectors import dot, share


@configurable
class HypergradientDescent(GradientRate):
    """Raise the rate while steps lead further downhill, and lower it when they turn back.

    If the gradient ``g`` points against the last change of the weights, that step could have been
    longer. With ``h = -g . change``, each update first moves the rate::

        rate *= 1 + beta * h / (|g| * |change|)        rule="normalised"
        rate += beta * h / rate                        rule="additive"

    The fit begins at the optimizer's rate. The normalised rule needs no tuning: it moves the rate
    by at most the share ``beta``, and leads from a rate that is 100 times too small or 10 times too
    large to a good one, with Adam or SGD with momentum. Without momentum it leads SGD to a rate
    that is too low. The additive rule is the paper's first one. Its ``beta`` depends on the size of
    the gradients: the paper uses 1e-8 to 1e-2.

    Args:
        beta: How fast the rate moves; above 0, and for the normalised rule below 1.
        rule: ``"normalised"`` or ``"additive"``.
        min_lr: The lowest rate.
        max_lr: The highest rate; None for no bound.
        state_path: File for the state, written after every epoch, with which a fit in a new process
            continues exactly where ``initial_epoch`` or ``BackupAndRestore`` resumes. The arrays,
            as large as the weights, are in a file next to it.

    Raises:
        TypeError: If an argument has the wrong type, or the optimizer was built with a schedule.
        ValueError: If a number is out of range; at the start of training, if another callback
            also decides the rate.
        RuntimeError: If the optimizer is not one of Keras 3, or updates its weights in its own way.
        StateError: If the state file cannot be used.

    Source: Baydin et al. 2018, Online Learning Rate Adaptation with Hypergradient Descent
    (arXiv:1703.04782), where the normalised rule is called multiplicative.

    >>> import keras
    >>> import numpy as np
    >>> x = keras.Input((4,))
    >>> model = keras.Model(x, keras.layers.Dense(1, kernel_initializer="zeros")(x))
    >>> model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), "mse")
    >>> rate = HypergradientDescent(beta=0.5)
    >>> x, y = np.ones((64, 4)), np.ones((64, 1))
    >>> fit = model.fit(x, y, batch_size=16, verbose=0, callbacks=[rate])
    >>> rate.history.learning_rate.round(7)
    array([0.0001   , 0.00015  , 0.000225 , 0.0003375], dtype=float32)
    """

    _: dataclasses.KW_ONLY
    beta: Annotated[float, Number(above=0.0)] = 0.1
    rule: Annotated[str, Choice(("normalised", "additive"))] = "normalised"
    min_lr: PositiveRate = 1e-8
    max_lr: Annotated[float | None, Optional(Number(above=0.0))] = None
    state_path: Annotated[str | None, Optional(Path())] = None

    takes_factor: ClassVar[bool] = False

    def validate(self) -> None:
        if self.rule == "normalised" and self.beta >= 1.0:
            raise self.invalid("beta", "above 0 and below 1 for the normalised rule")
        if self.max_lr is not None and self.max_lr < self.min_lr:
            raise self.invalid("max_lr", f"at least min_lr={self.min_lr}")
        super().validate()

    def make_rule(self) -> HypergradientRule:
        high = float("inf") if self.max_lr is None else self.max_lr
        return HypergradientRule(self.beta, self.rule == "normalised", self.min_lr, high)

    def check_optimizer(self, optimizer: Any) -> None:
        plain = isinstance(optimizer, keras.optimizers.SGD) and not optimizer.momentum
        if plain and self.rule == "normalised":
            warn_user(
                "HypergradientDescent leads SGD without momentum to a rate that is too low: its "
                "gradients turn back in each step at the best rate. Give it momentum=0.9, or use "
                "Adam."
            )


@dataclasses.dataclass(frozen=True)
class HypergradientRule:
    """The rule of `HypergradientDescent`; it keeps the weights before the last update."""

    beta: float
    normalised: bool
    low: float
    high: float
    layer_wise: ClassVar[bool] = False
    scales_means: ClassVar[bool] = False

    def initial_state(self, weights: list[Tensor]) -> State:
        """Return the state before the first update: nothing has changed yet."""
        return {"before": weights}

    def own_rate(self, multiplier: Tensor, rate: Tensor) -> Tensor:
        """Return the optimizer's rate, with which the rule begins."""
        return rate

    def decide(self, update: Update, state: State) -> Decision:
        """Return the rate of an update."""
        change = [now - was for now, was in zip(update.weights, state["before"], strict=True)]
        downhill = -dot(update.gradients, change)
        square = dot(update.gradients, update.gradients)
        if self.normalised:
            size = keras.ops.sqrt(square * dot(change, change))
            rate = update.rate * (1.0 + self.beta * share(downhill, size))
        else:
            rate = update.rate + self.beta * share(downhill, update.rate)
        rate = keras.ops.clip(rate, self.low, self.high)
        return Decision(rate, {"before": update.weights}, checked=square)
