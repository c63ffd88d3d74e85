"""`Rule`: what reads a learning rate off gradients, and what it sees of an update."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

Tensor = Any

State = dict[str, Any]
"""What a rule keeps from one update to the next: tensors, or lists of tensors as the weights."""


class Update(NamedTuple):
    """What a rule sees of an update. All tensors are float32, or float64 as the weights.

    Small weights are packed together in one tensor, unless the rule looks at each by itself.
    """

    gradients: list[Tensor]
    """The gradients; 0 for a weight that has none."""
    weights: list[Tensor]
    """The weights before the update, in the order of the gradients."""
    rate: Tensor
    """The rate of the update before."""
    multiplier: Tensor
    """The factor by which a schedule multiplies the rate."""
    optimizer: Any


class Decision(NamedTuple):
    """What a rule makes of an update."""

    rate: Tensor
    state: State
    checked: Tensor
    """A number that is finite only if all gradients are."""
    gradient_factors: Tensor | None = None
    """A vector with a factor for the gradient of each weight, which the optimizer is given."""
    mean_factor: Tensor | None = None
    """A factor for Adam's mean of the gradients after the update; its square for that of the
    squares."""


class Rule(Protocol):
    """What reads a rate off gradients. It must be hashable: equal rules share compiled steps."""

    @property
    def layer_wise(self) -> bool:
        """Whether the rule looks at each weight by itself."""

    def begin(self, weights: list[Tensor]) -> State:
        """Return the state before the first update."""

    def decide(self, update: Update, state: State) -> Decision:
        """Return the rate of an update, and the state after it.

        What the update leaves as it was is best returned as the same object: it is not written.
        """
