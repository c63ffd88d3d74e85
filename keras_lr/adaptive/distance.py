"""`DistanceOverGradients`: SGD at the distance travelled divided by the gradients seen."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

import keras
from keras import ops

from keras_lr._fields.configurable import configurable
from keras_lr._fields.kinds import Bool, Optional, Path, Positive
from keras_lr._keras.gradients.rule import Decision, State, Tensor, Update
from keras_lr.adaptive.base import GradientRate
from keras_lr.adaptive.vectors import Vector, dot_each, total


@configurable
class DistanceOverGradients(GradientRate):
    """Train SGD at the rate of DoG, which needs no initial rate.

    With the weights ``x_t`` before update ``t`` and its gradient ``g_t``::

        r_t = max(r_{t-1}, |x_t - x_0|)        r_0 = initial_distance * (1 + |x_0|)
        G_t = G_{t-1} + |g_t|^2                G_{-1} = 1e-8
        rate(t) = r_t / sqrt(G_t)

    The optimizer's own rate is not used. A schedule or a plateau in the same fit multiplies the
    rate. A decay did harm in short training runs, in which the rate has no time to grow.

    The paper asks for an average of the weights, because no schedule brings the rate down: build
    the optimizer with ``SGD(use_ema=True, ema_momentum=0.999)``, which Keras puts into the model
    when the fit ends.

    ``history.learning_rate`` has the rates. With ``layer_wise=True`` (L-DoG) each weight tensor has
    its own rate by the same formula, and the record has the highest rate of the tensors whose
    gradient is not 0.

    Args:
        initial_distance: The distance used in the first update, as a share of ``1 + |x_0|``: so
            small that a first step of that length does no harm. The authors take 1e-6,
            and 1e-4 for models with ``BatchNormalization``.
        layer_wise: Whether each weight tensor has its own rate.
        state_path: File for the state, written after every epoch, with which a fit in a new process
            continues exactly where ``initial_epoch`` or ``BackupAndRestore`` resumes. The arrays,
            as large as the weights, are in a file next to it.

    Raises:
        TypeError: If an argument has the wrong type, or the optimizer was built with a schedule.
        ValueError: If a number is out of range; at the start of training, if the optimizer is not
            SGD, has a momentum, or has a weight decay and ``layer_wise`` is true, or if another
            callback sets the rate.
        StateError: If the state file cannot be used.

    Source: Ivgi, Hinder & Carmon 2023, DoG is SGD's Best Friend (arXiv:2302.12022).

    >>> import keras
    >>> import numpy as np
    >>> x = keras.Input((4,))
    >>> model = keras.Model(x, keras.layers.Dense(1, kernel_initializer="zeros")(x))
    >>> model.compile("sgd", "mse")
    >>> rate = DistanceOverGradients()
    >>> x, y = np.ones((256, 4)), np.ones((256, 1))
    >>> fit = model.fit(x, y, batch_size=2, verbose=0, callbacks=[rate])
    >>> bool(rate.history.learning_rate[0] < 1e-6)
    True
    >>> bool(model.evaluate(x, y, verbose=0) < 1e-3)
    True
    """

    _: dataclasses.KW_ONLY
    initial_distance: Positive = 1e-6
    layer_wise: Annotated[bool, Bool()] = False
    state_path: Annotated[str | None, Optional(Path())] = None

    def make_rule(self) -> DistanceRule:
        return DistanceRule(self.initial_distance, self.layer_wise)

    def check_optimizer(self, optimizer: Any) -> None:
        if not isinstance(optimizer, keras.optimizers.SGD):
            raise ValueError(
                "DistanceOverGradients gives SGD its rate, not "
                f"{type(optimizer).__name__}, whose steps are not along the gradients. Compile "
                'the model with "sgd", or pass Prodigy(), which is for Adam.'
            )
        if optimizer.momentum:
            raise ValueError(
                "DistanceOverGradients gives SGD without momentum its rate: a momentum makes each "
                f"gradient count {1 / (1 - optimizer.momentum):.3g} times. Compile the model with "
                f'"sgd". Received: momentum={optimizer.momentum}'
            )
        if self.layer_wise and optimizer.weight_decay:
            raise ValueError(
                "DistanceOverGradients(layer_wise=True) has a rate for each weight tensor, but the "
                "weight decay of SGD uses a single one. Give the layers a kernel_regularizer "
                f"instead. Received: weight_decay={optimizer.weight_decay}"
            )


@dataclasses.dataclass(frozen=True)
class DistanceRule:
    """The rule of `DistanceOverGradients`; it keeps the initial weights.

    The sums are over all weights, or over each tensor separately.
    """

    initial_distance: float
    layer_wise: bool
    scales_means: ClassVar[bool] = False

    def initial_state(self, weights: list[Tensor]) -> State:
        """Return the state before the first update."""
        norm = ops.sqrt(self._square(weights))
        distance = self.initial_distance * (1.0 + norm)
        return {"start": weights, "distance": distance, "squares": 1e-8 * ops.ones_like(norm)}

    def own_rate(self, multiplier: Tensor, rate: Tensor) -> Tensor:
        """Return 0: without a gradient there is no rate yet."""
        return ops.zeros_like(multiplier)

    def decide(self, update: Update, state: State) -> Decision:
        """Return the rate of an update."""
        way = [now - was for now, was in zip(update.weights, state["start"], strict=True)]
        square = self._square(update.gradients)
        distance = ops.maximum(state["distance"], ops.sqrt(self._square(way)))
        squares = state["squares"] + square
        rate = distance / ops.sqrt(squares)
        highest = self._highest(rate, square) if self.layer_wise else rate
        return Decision(
            update.multiplier * highest,
            {"start": state["start"], "distance": distance, "squares": squares},
            checked=ops.sum(square),
            gradient_factors=rate / highest if self.layer_wise else None,
        )

    def _highest(self, rates: Tensor, squares: Tensor) -> Tensor:
        """Return the highest rate among tensors that move; the rate of others can be anything."""
        moving = ops.max(ops.where(squares > 0.0, rates, 0.0))
        return ops.where(moving > 0.0, moving, ops.max(rates))

    def _square(self, vector: Vector) -> Tensor:
        """Return the squared norm of a vector, or the squared norms of its tensors."""
        squares = dot_each(vector, vector)
        return ops.stack(squares) if self.layer_wise else total(squares)
