"""`RuleUpdates`: updates in which a rule computes the learning rate from the gradients.

Relies on these names of Keras 3 (3.12 and later), whose presence is checked before a fit trains:

- Once for each update, after clipping and unscaling, ``apply`` calls
  ``_apply_weight_decay(variables)``, which multiplies by ``learning_rate``, and right after that
  ``_backend_update_step(gradients, variables, learning_rate)``. An optimizer that updates its
  variables in another way is refused in its first update, which is undone.
- ``_trainable_variables`` are the variables that the optimizer was built for, which ``_var_key``
  tells apart.
- A training step calls ``apply`` of the model's optimizer once for each batch. If the step takes
  the model's state, it calls ``stateless_apply`` instead, which takes and returns the values of
  ``variables``, a copy of the list ``_variables``. A variable that is added to that list while the
  step is traced is treated like the optimizer's own: it changes only when there is an update, and
  under loss scaling only when the gradients are finite.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from keras_lr._keras.fits.jax_state import steps_take_state
from keras_lr._keras.gradients.packing import Packing
from keras_lr._keras.gradients.rate_notes import RateNotes, applied_too_often
from keras_lr._keras.gradients.rule import Rule, State, Update
from keras_lr._keras.gradients.tensors import (
    as_float_tensor,
    assign_copies,
    current_trace,
    names_of_means,
    new_variable,
    scale_means,
    scope_of,
    sum_over_replicas,
    without_gradients,
)
from keras_lr._keras.host_values import to_numpy
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, NOT_NEGATIVE, Hyperparameter, Range
from keras_lr._keras.rates.optimizers import trained_variables, unwrap_loss_scaling
from keras_lr._keras.rates.step_methods import (
    WEIGHT_DECAY,
    StepMethods,
    check_has,
    updates_in_its_own_way,
)

USE = "a rate computed from the gradients"


class RuleRate(Hyperparameter):
    """Stands in for a learning rate that a rule decides. Its value is the rule's multiplier."""

    permitted: ClassVar[Range] = NOT_NEGATIVE
    is_recorded: ClassVar[bool] = False
    enters_last: ClassVar[bool] = True

    updates: RuleUpdates

    def __init__(self, updates: RuleUpdates) -> None:
        """Create the stand-in for the rate of the optimizer of ``updates``."""
        self.__dict__.update(optimizer=updates.optimizer, name=LEARNING_RATE, updates=updates)

    @functools.cached_property
    def variable(self) -> None:
        """None: no variable of Keras holds the multiplier."""
        return None

    @functools.cached_property
    def key(self) -> tuple[Any, ...]:
        """Identity of the rate."""
        return self.updates.rate.key

    @property
    def compile_key(self) -> tuple[Any, ...]:
        """What a compiled step depends on."""
        return ("rule", id(self.updates))

    @property
    def state(self) -> Sequence[Any]:
        """The variables of the rule."""
        return self.updates.own_variables

    @property
    def notes(self) -> RateNotes:
        """The rates that the steps used."""
        return self.updates.notes

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def plain_value(self) -> Any:
        """Return None: the optimizer has no value outside of a step."""
        return None

    def enter_step(self, value: Any, plain: Any) -> None:
        """Make the rule decide the rate in a step."""
        self.updates.multiplier = value
        self.updates.enter()

    def leave_step(self, plain: Any) -> None:
        """Make the optimizer update as usual."""
        self.updates.leave()


_KNOWN: weakref.WeakValueDictionary[Hashable, RuleUpdates] = weakref.WeakValueDictionary()
"""Updates by optimizer and rule. A compiled step keeps them alive for later fits."""


def rule_updates(model: Any, rule: Rule, rows: int) -> RuleUpdates:
    """Return the updates of a model's optimizer by a rule, reusing those of an earlier fit.

    Args:
        model: The model.
        rule: The rule.
        rows: Batches whose rates are noted before they are read.
    """
    key = id(model.optimizer), rule, rows
    found = _KNOWN.get(key)
    if found is None:
        with scope_of(model):
            found = _KNOWN[key] = RuleUpdates(model.optimizer, rule, rows)
    return found


def check_can_follow_rule(optimizer: Any) -> None:
    """Refuse an optimizer that lacks a name that `RuleUpdates` relies on.

    Raises:
        RuntimeError: If a name is missing.
    """
    names = "apply", "stateless_apply", "_variables"
    check_has(optimizer, names, USE)
    inner = "_apply_weight_decay", "_backend_update_step", "_trainable_variables", "_var_key"
    check_has(unwrap_loss_scaling(optimizer), (*names, *inner), USE)


class RuleUpdates:
    """Updates of one optimizer whose rate a rule decides."""

    def __init__(self, optimizer: Any, rule: Rule, rows: int) -> None:
        """Make the variables of the rule; `start_fit` gives them their values.

        Args:
            optimizer: The built optimizer of a model, or a ``LossScaleOptimizer`` around it.
            rule: The rule.
            rows: Batches whose rates are noted before they are read.
        """
        check_can_follow_rule(optimizer)
        self.outer, self.optimizer, self.rule = optimizer, unwrap_loss_scaling(optimizer), rule
        if rule.scales_means:
            check_has(self.optimizer, names_of_means(self.optimizer), USE)
        self.rate = Hyperparameter(self.optimizer, LEARNING_RATE)
        self.weights = trained_variables(self.optimizer)
        self.notes = RateNotes(rows)
        self.fits = 0
        """Number of fits so far: the state belongs to the last one."""
        self.multiplier: Any = 1.0
        self._decay: Callable[[], Any] | None = None
        self._applied: list[Any] = []
        """Marks of the steps that have applied gradients already: see `_refuse_second_time`."""
        self._packing = Packing(self.weights, rule.layer_wise)
        self._places = {self.key_of(one): place for place, one in enumerate(self.weights)}
        self._variables: dict[str, Any] = {
            name: [new_variable(one) for one in value]
            if isinstance(value, list)
            else new_variable(value)
            for name, value in self._first_state().items()
        }
        self._failed = new_variable(np.zeros((), np.int32))
        self._rate = new_variable(np.asarray(np.nan, np.float32))
        """The rate of the rule's last decision; NaN before the first one."""
        self._in_state = steps_take_state()
        """Whether the values of variables travel in the state of a step."""
        inner: dict[str, Callable[..., Any]] = {
            "apply": self._check_update,
            WEIGHT_DECAY: self._defer_decay,
            "_backend_update_step": self._update,
        }
        outer: dict[str, Callable[..., Any]] = {"apply": self._apply}
        if self._in_state:
            outer = {"stateless_apply": self._stateless_apply}
        self._methods = [
            StepMethods(self.optimizer, inner, USE),
            StepMethods(self.outer, outer, USE),
        ]

    def key_of(self, variable: Any) -> Hashable:
        """Return the key of a variable of the optimizer."""
        return self.optimizer._var_key(variable)

    # The state --------------------------------------------------------------------------------

    @property
    def own_variables(self) -> list[Any]:
        """The variables that a step changes besides those of the model and the optimizer."""
        return [*self._named_variables().values(), *self.notes.variables]

    def _named_variables(self) -> dict[str, Any]:
        """Return the variables of the state by name."""
        named = {"failed": self._failed, "rate": self._rate}
        for name, value in self._variables.items():
            if isinstance(value, list):
                named |= {f"{name}.{place}": one for place, one in enumerate(value)}
            else:
                named[name] = value
        return named

    def _first_state(self) -> State:
        """Return the state that the rule begins with at the present weights."""
        with without_gradients():
            return self.rule.initial_state(
                self._packing.pack([as_float_tensor(one) for one in self.weights])
            )

    def start_fit(self, state: dict[str, np.ndarray] | None) -> None:
        """Begin a fit.

        Args:
            state: What `read_state` returned; None starts afresh at the present weights.

        Raises:
            ValueError: If ``state`` is of another model or rule.
        """
        self.fits += 1
        self.notes.start_fit()
        if state is not None:
            self._write_state(state)
            return
        self._failed.assign(np.zeros((), np.int32))
        self._rate.assign(np.asarray(np.nan, np.float32))
        for name, value in self._first_state().items():
            assign_copies(self._variables[name], value)

    def keep_fit(self) -> None:
        """Begin a fit with the state that the last fit left."""
        self.fits += 1
        self.notes.start_fit()

    def read_state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, by name."""
        return {name: to_numpy(one).copy() for name, one in self._named_variables().items()}

    def describe_misfit(self, state: dict[str, np.ndarray]) -> str:
        """Return how a state differs from one of this model, in words; empty if it fits."""
        expected = {name: tuple(one.shape) for name, one in self._named_variables().items()}
        found = {name: np.shape(one) for name, one in state.items()}
        if expected == found:
            return ""
        wrong = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        return f"{wrong!r} has the shape {found.get(wrong)}, but here it has {expected.get(wrong)}"

    def _write_state(self, state: dict[str, np.ndarray]) -> None:
        if misfit := self.describe_misfit(state):
            raise ValueError(f"The state is of another model: {misfit}.")
        for name, variable in self._named_variables().items():
            variable.assign(np.asarray(state[name]))

    def failed_updates(self) -> int:
        """Return the number of updates whose gradients were not finite."""
        return int(to_numpy(self._failed))

    # In a step ----------------------------------------------------------------------------------

    def enter(self) -> None:
        """Install the rule in a step that runs or is traced."""
        own = self.own_variables if self._in_state else []
        listed = self.optimizer._variables
        if own and not any(one is own[0] for one in listed):
            listed.extend(own)
        for methods in self._methods:
            methods.enter()

    def leave(self) -> None:
        """Put the optimizer back as it was."""
        for methods in reversed(self._methods):
            methods.leave()
        self.multiplier, self._decay = 1.0, None
        self._applied.clear()
        if self._in_state:
            own = {id(one) for one in self.own_variables}
            listed = self.optimizer._variables
            listed[:] = [one for one in listed if id(one) not in own]

    def _apply(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Apply the gradients of a batch, and note the rate."""
        self._refuse_second_time(current_trace())
        result = method(*arguments, **options)
        with without_gradients():
            self.notes.note(self._last_rate())
        return result

    def _stateless_apply(
        self, method: Callable[..., Any], values: Any, grads: Any, weights: Any
    ) -> tuple[Any, Any]:
        """Apply the gradients of a batch, and note the rate, in a step that takes the state."""
        place = {id(variable): place for place, variable in enumerate(self.outer.variables)}
        rates, count = (place[id(variable)] for variable in self.notes.variables)
        self._refuse_second_time(values[count])
        weights, values = method(values, grads, weights)
        values = list(values)
        mapping = list(zip(self.outer.variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            rate = self._last_rate()
        values[rates], values[count] = self.notes.with_rate(values[rates], values[count], rate)
        self._applied.append(values[count])
        return weights, values

    def _refuse_second_time(self, sign: Any) -> None:
        """Refuse a step that applies gradients a second time.

        A step that does so only in a branch or a loop is refused after its first execution.

        Args:
            sign: In a step that takes the state, the tensor with the number of batches noted so
                far: an earlier call in this step returned this very tensor, or none did. Elsewhere,
                the mark of the traced graph; the branches of a condition have other graphs.

        Raises:
            RuntimeError: If the step has applied gradients already.
        """
        if any(one is sign or (isinstance(one, tuple) and one == sign) for one in self._applied):
            raise applied_too_often(2, 1)
        if isinstance(sign, tuple):
            self._applied.append(sign)

    def _check_update(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Apply gradients by the optimizer's own method, if that calls the rule."""
        methods = self._methods[0]
        with methods.checked_update(self.weights, "_backend_update_step", WEIGHT_DECAY):
            result = method(*arguments, **options)
            if self._decay is not None and "_backend_update_step" in methods.called:
                # It was deferred after the update.
                raise updates_in_its_own_way(self.optimizer, WEIGHT_DECAY, USE)
        return result

    def _defer_decay(self, method: Callable[..., Any], variables: Any) -> None:
        """Postpone the weight decay until its rate is known."""
        self._decay = functools.partial(method, variables)

    def _update(
        self, method: Callable[..., Any], grads: Any, variables: Any, learning_rate: Any
    ) -> Any:
        """Update the weights by the rate that the rule computes from the gradients."""
        # Another replica may be in the middle of this.
        decay, multiplier = self._decay, self.multiplier
        self._decay = None
        with without_gradients():
            places = [self._places[self.key_of(variable)] for variable in variables]
            by_place = dict(zip(places, sum_over_replicas(list(grads)), strict=True))
            update, state = self._describe_update(by_place, multiplier), self._present_state()
            decision = self.rule.decide(update, state)
            finite = keras.ops.isfinite(decision.checked + decision.rate)
            rate = keras.ops.where(finite, decision.rate, self._last_rate())
            decided = keras.ops.where(finite, rate, keras.ops.convert_to_tensor(self._rate))
            rate = keras.ops.cast(rate, self.rate.variable.dtype)
            self._keep(decision.state, state, finite)
            self._rate.assign(keras.ops.cast(decided, "float32"))
            self.rate.variable.assign(rate)
        if decay is not None:
            decay()
        if decision.gradient_factors is not None:
            factors = keras.ops.unstack(keras.ops.where(finite, decision.gradient_factors, 1.0))
            grads = [
                keras.ops.convert_to_tensor(gradient)
                * keras.ops.cast(factors[place], variable.dtype)
                for gradient, place, variable in zip(grads, places, variables, strict=True)
            ]
        result = method(grads, variables, rate)
        if decision.mean_factor is not None:
            with without_gradients():
                scale_means(self.optimizer, keras.ops.where(finite, decision.mean_factor, 1.0))
        return result

    def _last_rate(self) -> Any:
        """Return the rate of the last decision, or the rule's own before the first one."""
        last, multiplier = keras.ops.convert_to_tensor(self._rate), as_float_tensor(self.multiplier)
        own = self.rule.own_rate(multiplier, as_float_tensor(self.rate.variable))
        return keras.ops.where(keras.ops.isnan(last), keras.ops.cast(own, "float32"), last)

    def _describe_update(self, grads: dict[int, Any], multiplier: Any) -> Update:
        """Return the update that the rule sees, from the gradients by place of their weights."""
        weights = [as_float_tensor(one) for one in self.weights]
        gradients = [
            as_float_tensor(grads[place]) if place in grads else keras.ops.zeros_like(weight)
            for place, weight in enumerate(weights)
        ]
        return Update(
            gradients=self._packing.pack(gradients),
            weights=self._packing.pack(weights),
            rate=as_float_tensor(self.rate.variable),
            multiplier=as_float_tensor(multiplier),
            optimizer=self.optimizer,
        )

    def _present_state(self) -> State:
        """Return the values of the variables of the state."""
        read = keras.ops.convert_to_tensor
        return {
            name: [*map(read, value)] if isinstance(value, list) else read(value)
            for name, value in self._variables.items()
        }

    def _keep(self, state: State, before: State, finite: Any) -> None:
        """Store the state after an update, if its gradients were finite."""
        for name, variable in self._variables.items():
            several = isinstance(variable, list)
            pairs = (
                zip(variable, state[name], before[name], strict=True)
                if several
                else ((variable, state[name], before[name]),)
            )
            for one, new, old in pairs:
                if new is not old:
                    one.assign(keras.ops.where(finite, keras.ops.cast(new, one.dtype), old))
        failed = keras.ops.cast(keras.ops.logical_not(finite), "int32")
        self._failed.assign_add(failed)
