"""`Rule`: computes a learning rate from gradients, given an `Update`, returning a `Decision`."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

Tensor = Any

State = dict[str, Any]
"""State of a rule between two updates: tensors, or lists of tensors like the weights."""


class Update(NamedTuple):
    """Input of a rule for one update. All tensors are float32, or float64 like the weights.

    Small weights are packed together in one tensor, unless the rule is layer-wise.
    """

    gradients: list[Tensor]
    """The gradients; 0 for a weight that has none."""
    weights: list[Tensor]
    """The weights before the update, in the order of the gradients."""
    rate: Tensor
    """The rate of the previous update."""
    multiplier: Tensor
    """The factor by which a schedule multiplies the rate."""
    optimizer: Any


class Decision(NamedTuple):
    """Output of a rule for one update."""

    rate: Tensor
    state: State
    checked: Tensor
    """A number that is finite only if all gradients are."""
    gradient_factors: Tensor | None = None
    """A vector with a factor for each weight's gradient, applied before the optimizer sees it."""
    mean_factor: Tensor | None = None
    """A factor for Adam's mean of the gradients after the update. The mean of their squares is
    multiplied by its square."""


class Rule(Protocol):
    """Computes a rate from gradients. A rule must be hashable: equal rules share compiled steps."""

    @property
    def layer_wise(self) -> bool:
        """Whether the rule needs each weight as a separate tensor."""

    @property
    def scales_means(self) -> bool:
        """Whether its decisions have a factor for Adam's means."""

    def initial_state(self, weights: list[Tensor]) -> State:
        """Return the state before the first update."""

    def own_rate(self, multiplier: Tensor, rate: Tensor) -> Tensor:
        """Return the rate before the first decision, which no update has used.

        Args:
            multiplier: The factor by which a schedule multiplies the rate.
            rate: The optimizer's rate.
        """

    def decide(self, update: Update, state: State) -> Decision:
        """Return the rate of an update, and the state after it.

        Return an unchanged part of the state as the same object: then it is not written again.
        """
