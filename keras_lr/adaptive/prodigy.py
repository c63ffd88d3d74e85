"""`Prodigy`: Adam at a rate that follows from the estimated distance to the solution."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

import keras
from keras import ops

from keras_lr._fields.configurable import configurable
from keras_lr._fields.kinds import Bool, Number, Optional, Path, Positive
from keras_lr._keras.gradients.rule import Decision, State, Tensor, Update
from keras_lr.adaptive.base import GradientRate
from keras_lr.adaptive.vectors import dot, share, total


@configurable
class Prodigy(GradientRate):
    """Train Adam or AdamW at the rate of Prodigy, which needs no initial rate.

    With the weights ``x``, the gradient ``g``, a factor ``f`` (1, or that of a schedule), Adam's
    correction ``c = sqrt(1 - beta_2**t) / (1 - beta_1**t)`` of its update ``t`` and ``beta_3 =
    sqrt(beta_2)``, each update computes::

        rate = f * d
        n = beta_3 * n + (d / d0) * d * f * c * g . (x_0 - x)
        s = beta_3 * s + (d / d0) * d * g              without safeguard_warmup: times f * c
        d = max(d, d_coef * n / |s|_1)                 from the next update on

    Adam's means are those of ``d * g``, so they are rescaled when ``d`` grows. The optimizer's own
    rate is not used. The authors recommend a cosine in the same fit, as a factor of the rate:
    ``callbacks=[Prodigy(), CosineDecay(1.0)]``. A plateau is a factor too.

    It keeps two copies of the weights.

    Args:
        d0: The first estimate of the distance. It only has to be too small.
        d_coef: Factor of the estimate, the way to tune: 0.5 or 2.0.
        growth_rate: Largest factor by which ``d`` grows in an update, except when it first grows;
            None for no bound. 1.02 acts like a warmup.
        safeguard_warmup: Whether the sum ``s`` leaves out the factor, as the authors advise with a
            warmup.
        state_path: File for the state, written after every epoch, with which a fit in a new process
            continues exactly where ``initial_epoch`` or ``BackupAndRestore`` resumes. The arrays,
            twice as large as the weights, are in a file next to it.

    Raises:
        TypeError: If an argument has the wrong type, or the optimizer was built with a schedule.
        ValueError: If a number is out of range; at the start of training, if the optimizer is not
            Adam or AdamW, or if another callback sets the rate.
        StateError: If the state file cannot be used.

    Source: Mishchenko & Defazio 2023, Prodigy (arXiv:2306.06101), algorithm 4, and the authors'
    package ``prodigyopt`` with ``use_bias_correction=True``. The other defaults are those of the
    package, except for ``safeguard_warmup``. The weight decay of AdamW uses ``rate``, as in Keras.

    >>> import keras
    >>> import numpy as np
    >>> x = keras.Input((4,))
    >>> model = keras.Model(x, keras.layers.Dense(1, kernel_initializer="zeros")(x))
    >>> model.compile("adam", "mse")
    >>> rate = Prodigy()
    >>> x, y = np.ones((256, 4)), np.ones((256, 1))
    >>> fit = model.fit(x, y, batch_size=2, verbose=0, callbacks=[rate])
    >>> float(rate.history.learning_rate[0])
    9.999999974752427e-07
    >>> bool(model.evaluate(x, y, verbose=0) < 0.01)
    True
    """

    _: dataclasses.KW_ONLY
    d0: Positive = 1e-6
    d_coef: Positive = 1.0
    growth_rate: Annotated[float | None, Optional(Number(above=1.0))] = None
    safeguard_warmup: Annotated[bool, Bool()] = True
    state_path: Annotated[str | None, Optional(Path())] = None

    def make_rule(self) -> ProdigyRule:
        growth = float("inf") if self.growth_rate is None else self.growth_rate
        return ProdigyRule(self.d0, self.d_coef, growth, self.safeguard_warmup)

    def check_optimizer(self, optimizer: Any) -> None:
        if not isinstance(optimizer, keras.optimizers.Adam):
            raise ValueError(
                f"Prodigy gives Adam and AdamW their rate, not {type(optimizer).__name__}. "
                'Compile the model with "adam", or pass DistanceOverGradients(), which is for SGD.'
            )


@dataclasses.dataclass(frozen=True)
class ProdigyRule:
    """The rule of `Prodigy`; it keeps the initial weights and a sum of the gradients."""

    d0: float
    d_coef: float
    growth: float
    safeguard: bool
    layer_wise: ClassVar[bool] = False
    scales_means: ClassVar[bool] = True

    def initial_state(self, weights: list[Tensor]) -> State:
        """Return the state before the first update."""
        first = ops.convert_to_tensor(self.d0, "float32")
        return {
            "start": weights,
            "sum": [ops.zeros_like(one) for one in weights],
            "numerator": ops.zeros_like(first),
            "distance": first,
            "highest": first,
        }

    def own_rate(self, multiplier: Tensor, rate: Tensor) -> Tensor:
        """Return the first estimate of the distance, times the factor."""
        return multiplier * self.d0

    def decide(self, update: Update, state: State) -> Decision:
        """Return the rate of an update."""
        adam, distance = update.optimizer, state["distance"]
        rate = update.multiplier * distance
        # Keras's Adam numbers the present update iterations + 1.
        count = ops.cast(adam.iterations, "float32") + 1.0
        beta_1, beta_2 = (ops.cast(one, "float32") for one in (adam.beta_1, adam.beta_2))
        beta_3 = ops.sqrt(beta_2)
        unbiased = ops.sqrt(1.0 - ops.power(beta_2, count)) / (1.0 - ops.power(beta_1, count))
        weight = distance / self.d0
        step = weight * rate * unbiased
        back = [was - now for was, now in zip(state["start"], update.weights, strict=True)]
        along = dot(update.gradients, back)
        numerator = beta_3 * state["numerator"] + step * along
        by = weight * distance if self.safeguard else step
        pairs = zip(state["sum"], update.gradients, strict=True)
        sums = [beta_3 * one + by * gradient for one, gradient in pairs]
        estimate = self.d_coef * share(numerator, total(ops.sum(ops.abs(one)) for one in sums))
        highest = ops.maximum(state["highest"], estimate)
        first = ops.equal(distance, self.d0)
        grown = ops.where(first, ops.maximum(distance, estimate), distance) * self.growth
        after = ops.minimum(highest, grown)
        new = {"start": state["start"], "sum": sums, "numerator": numerator}
        return Decision(
            rate,
            new | {"distance": after, "highest": highest},
            checked=along,
            mean_factor=distance / after,
        )
