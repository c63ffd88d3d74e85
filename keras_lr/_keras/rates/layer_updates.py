"""`LayerUpdates`: updates in which each group of variables has its own rate, or is frozen.

Relies on these names of Keras 3 (3.12 and later), whose presence is checked before a fit trains:

- ``apply`` hands the gradients to ``_apply_weight_decay``, which multiplies by ``learning_rate``,
  and to ``_backend_update_step(gradients, variables, learning_rate)``. That calls ``update_step``
  for each variable, or, on PyTorch, ``_parallel_update_step`` for all of them. An optimizer that
  updates its variables in another way is refused in its first update, which is undone.
- ``_learning_rate`` and ``_iterations`` hold what the properties ``learning_rate`` and
  ``iterations`` return; a tensor in their place is returned unchanged.
- ``_var_key`` tells variables apart, and ``_trainable_variables`` are those that the optimizer was
  built for, in the order of their averages in ``_model_variables_moving_average``, which
  ``_update_model_variables_moving_average`` updates.
- Nadam multiplies ``_u_product`` in each update, once for all variables: see
  `keras_lr._keras.rates.nadam`.

What an optimizer gets when it is built is checked then, on TensorFlow in the first step.
"""

from __future__ import annotations

import contextlib
import enum
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import keras

from keras_lr._keras.rates.conditional_update import check_can_run_if, run_if
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, NOT_NEGATIVE, Hyperparameter, Range
from keras_lr._keras.rates.nadam import names_of_product, product_after, product_of
from keras_lr._keras.rates.optimizers import (
    overrides_learning_rate,
    trained_variables,
)
from keras_lr._keras.rates.step_methods import WEIGHT_DECAY, StepMethods, check_has

USE = "a rate for each part of a model"

ATTRIBUTES = "_learning_rate", "_iterations", "_trainable_variables", "_var_key", "built", "build"
"""What an optimizer must have besides the methods that are replaced."""


class Freezing(enum.Enum):
    """When the variables of a group are frozen."""

    NEVER = "never"
    SOMETIMES = "sometimes"
    """In the steps whose factor is 0."""
    ALWAYS = "always"


class VariableGroup(NamedTuple):
    """Variables whose rates have the same factor."""

    name: str
    variables: tuple[Any, ...]
    freezing: Freezing


class LayerFactor(Hyperparameter):
    """The factor of the rate for one group of an optimizer's variables."""

    permitted: ClassVar[Range] = NOT_NEGATIVE
    is_recorded: ClassVar[bool] = True

    def __init__(self, updates: LayerUpdates, index: int) -> None:
        """Create the factor of the group at ``index`` among those of ``updates``."""
        self.__dict__.update(
            optimizer=updates.optimizer, name="factor", updates=updates, index=index
        )

    updates: LayerUpdates
    index: int

    @property
    def group(self) -> VariableGroup:
        """The group."""
        return self.updates.groups[self.index]

    @property
    def column(self) -> str:
        """Name under which the rate of the group is recorded."""
        return f"{LEARNING_RATE}_{self.group.name}"

    @property
    def multiplies(self) -> Hyperparameter | None:
        """The rate that the factor multiplies."""
        return self.updates.rate

    @functools.cached_property
    def variable(self) -> None:
        """None: no variable of Keras's holds a factor."""
        return None

    @functools.cached_property
    def key(self) -> tuple[Any, ...]:
        """Identity of the factor: all that a compiled step depends on, apart from its value."""
        members = tuple(map(self.updates.key_of, self.group.variables))
        return id(self.optimizer), self.name, self.index, self.group.freezing, members

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def read(self) -> float:
        """Return the factor outside of a step."""
        return 1.0

    def plain_value(self) -> Any:
        """Return None: the optimizer has no value outside of a step."""
        return None

    def enter_step(self, value: Any, plain: Any) -> None:
        """Make the updates of a step use a factor."""
        self.updates.set_factor(self.index, value)
        self.updates.methods.enter()

    def leave_step(self, plain: Any) -> None:
        """Make the optimizer update as usual."""
        if self.updates.methods.leave():
            self.updates.forget_step()


class MissedUpdates(LayerFactor):
    """The number of updates that a group has missed since the fit's first step while frozen.

    If an optimizer counts its updates, as Adam does to correct its means, its count is too high for
    this group.
    """

    is_recorded: ClassVar[bool] = False

    def __init__(self, updates: LayerUpdates, index: int) -> None:
        super().__init__(updates, index)
        self.__dict__["name"] = "missed_updates"

    @property
    def multiplies(self) -> None:
        """None: the number is not a factor."""
        return None

    def enter_step(self, value: Any, plain: Any) -> None:
        """Make the updates of a step use a number of missed updates."""
        self.updates.missed[self.index] = moving_number(value)
        self.updates.methods.enter()


class LayerUpdates:
    """Updates of one optimizer in which each group of variables has a factor.

    A factor of 0 freezes a group: neither its variables nor their optimizer slots change.
    """

    def __init__(self, optimizer: Any, groups: Sequence[VariableGroup]) -> None:
        """Check that the optimizer can be updated in groups.

        Args:
            optimizer: The optimizer.
            groups: Its groups; variables in none of them are updated as usual.

        Raises:
            RuntimeError: If the optimizer or Keras lacks something that this relies on.
            ValueError: If its weight decay does not use the learning rate that is passed to it.
        """
        self.optimizer = optimizer
        self.groups = list(groups)
        self.forget_step()
        parallel = hasattr(optimizer, "_parallel_update_step")
        self._leaf = "_parallel_update_step" if parallel else "update_step"
        functions: dict[str, Callable[..., Any]] = {
            "apply": self._apply,
            WEIGHT_DECAY: self._decay,
            "_backend_update_step": self._update,
            self._leaf: self._update_some if parallel else self._update_one,
        }
        if optimizer_has(optimizer, "use_ema"):
            functions["_update_model_variables_moving_average"] = self._average
        check_has(optimizer, ATTRIBUTES, USE)
        if self._may_miss_updates():
            check_can_run_if()
        if optimizer.built:
            self._check_slots()
        self.methods = StepMethods(optimizer, functions, USE)
        self.rate = Hyperparameter(optimizer, LEARNING_RATE)
        self._parallel = parallel
        self._plain = self._counters()
        self._group_of = {
            self.key_of(variable): index
            for index, group in enumerate(self.groups)
            for variable in group.variables
        }
        if optimizer_has(optimizer, "weight_decay") and overrides_learning_rate(optimizer):
            raise ValueError(
                f"The optimizer {type(optimizer).__name__} computes its learning rate, and has a "
                "weight decay, which multiplies by that rate: a factor for a part of the model "
                "would not reach the decay. Let `learning_rate` be the variable that Keras keeps "
                "for it, or set weight_decay=None."
            )

    def _may_miss_updates(self) -> bool:
        """Return whether a group is frozen in some steps only."""
        return any(group.freezing is Freezing.SOMETIMES for group in self.groups)

    def _check_slots(self) -> None:
        """Refuse an optimizer that was built without what this class relies on.

        Raises:
            RuntimeError: If it lacks something.
        """
        names = names_of_product(self.optimizer) if self._may_miss_updates() else []
        if optimizer_has(self.optimizer, "use_ema"):
            names.append("_model_variables_moving_average")
        check_has(self.optimizer, names, USE)

    def forget_step(self) -> None:
        """Forget the tensors of a step, which would keep its graph in memory."""
        self.factors: list[Any] = [1.0] * len(self.groups)
        """The factor of each group: a tensor if it moves."""
        self.frozen: list[bool | None] = [False] * len(self.groups)
        """Whether each factor is 0; None where only the running step knows."""
        self.missed: list[Any] = [0.0] * len(self.groups)
        """The updates that each group has missed: a tensor if the number moves."""
        self._rates: list[Any] = []
        self._active: list[Any] = []
        self._own: list[dict[str, Any]] = []

    def _counters(self) -> dict[str, Any]:
        """Return the attributes of the optimizer that a group may replace by its own."""
        names = "_learning_rate", "_iterations", "_u_product"
        return {name: value for name, value in vars(self.optimizer).items() if name in names}

    def key_of(self, variable: Any) -> Hashable:
        """Return the key of a variable of the optimizer."""
        return self.optimizer._var_key(variable)

    def group_of(self, variable: Any) -> int | None:
        """Return the index of a variable's group; None if it has none."""
        return self._group_of.get(self.key_of(variable))

    # Factors ----------------------------------------------------------------------------------

    def set_factor(self, index: int, value: Any) -> None:
        """Make the updates of a step use a factor for a group."""
        self.frozen[index] = value == 0.0 if isinstance(value, float) else None
        moves = self.groups[index].freezing is Freezing.SOMETIMES
        self.factors[index] = moving_number(value) if moves else value

    def _is_frozen(self, index: int | None) -> bool:
        """Return whether a group is known to be frozen while the step is traced."""
        if index is None:
            return False
        freezing = self.groups[index].freezing
        known = self.frozen[index] is True
        return freezing is Freezing.ALWAYS or (freezing is Freezing.SOMETIMES and known)

    def _may_be_frozen(self, index: int | None) -> bool:
        """Return whether it is known only in the running step if a group is frozen."""
        if index is None or self.frozen[index] is not None:
            return False
        return self.groups[index].freezing is Freezing.SOMETIMES

    def _is_active(self, index: int) -> Any:
        """Return a boolean tensor: whether a group moves in the running step."""
        return keras.ops.greater(self.factors[index], 0)

    def _rate_of(self, index: int | None, rate: Any) -> Any:
        """Return the rate of a group, in the precision in which the optimizer keeps its own."""
        if index is None:
            return rate
        rate = keras.ops.convert_to_tensor(rate)
        return rate * keras.ops.cast(self.factors[index], rate.dtype)

    # Replacements of the optimizer's methods --------------------------------------------------

    def _apply(
        self, method: Callable[..., Any], grads: Any, trainable_variables: Any = None
    ) -> None:
        """Apply the gradients of the variables that are not frozen."""
        optimizer = self.optimizer
        variables = list(trainable_variables or trained_variables(optimizer))
        if not optimizer.built and variables:
            with keras.name_scope(optimizer.name, caller=optimizer):
                optimizer.build(variables)
            self._check_slots()
            self._plain = self._counters()
        pairs = list(zip(grads, variables, strict=True))
        moving = [
            (self._masked(gradient, variable), variable)
            for gradient, variable in pairs
            if not self._is_frozen(self.group_of(variable))
        ]
        if pairs and not moving:
            self._plain["_iterations"].assign_add(1)
            return
        constrained = [
            (variable, keras.ops.copy(variable.value))
            for _, variable in moving
            if getattr(variable, "constraint", None) is not None
            and self._may_be_frozen(self.group_of(variable))
        ]
        with self.methods.checked_update(
            variables, "_backend_update_step", self._leaf, WEIGHT_DECAY
        ):
            method([gradient for gradient, _ in moving], [variable for _, variable in moving])
        for variable, before in constrained:
            active = self._is_active(self._group_of[self.key_of(variable)])
            variable.assign(keras.ops.where(active, variable.value, before))

    def _masked(self, gradient: Any, variable: Any) -> Any:
        """Return a gradient, or zeros in the steps in which the variable is frozen.

        This matters only if the optimizer combines the gradients of several variables or steps.
        """
        optimizer, index = self.optimizer, self.group_of(variable)
        looks = optimizer.gradient_accumulation_steps or optimizer.global_clipnorm
        if gradient is None or not looks or not self._may_be_frozen(index):
            return gradient
        active = self._is_active(index)  # type: ignore[arg-type]
        if not hasattr(gradient, "indices"):
            return keras.ops.where(active, gradient, keras.ops.zeros_like(gradient))
        values = keras.ops.where(active, gradient.values, keras.ops.zeros_like(gradient.values))
        return type(gradient)(values, gradient.indices, gradient.dense_shape)

    def _decay(self, method: Callable[..., Any], variables: Any) -> None:
        """Apply the weight decay to each group by its own rate; a rate of 0 changes nothing."""
        if self.optimizer.weight_decay is None:
            method(variables)
            return
        # Another replica may be in the middle of this, with the rate of a group in place.
        attributes = vars(self.optimizer)
        present = attributes["_learning_rate"]
        attributes["_learning_rate"] = self._plain["_learning_rate"]
        plain = self.optimizer.learning_rate
        attributes["_learning_rate"] = present
        for index, some in self._split(variables):
            members = [variables[place] for place in some]
            rate = self._rate_of(index, plain)
            with self._attributes({} if index is None else {"_learning_rate": rate}):
                method(members)

    def _update(
        self, method: Callable[..., Any], grads: Any, variables: Any, learning_rate: Any
    ) -> Any:
        """Update all variables, after computing once what each group needs."""
        everyone = range(len(self.groups))
        self._rates = [self._rate_of(index, learning_rate) for index in everyone]
        self._active = [self._is_active(i) if self._may_be_frozen(i) else None for i in everyone]
        self._own = [self._own_counts(index) for index in everyone]
        return method(grads, variables, learning_rate)

    def _own_counts(self, index: int) -> dict[str, Any]:
        """Return the optimizer's counters, corrected for a group that may have missed updates."""
        if self.groups[index].freezing is not Freezing.SOMETIMES:
            return {}
        counted = keras.ops.convert_to_tensor(self._plain["_iterations"])
        missed = keras.ops.cast(self.missed[index], counted.dtype)
        made = keras.ops.maximum(counted - missed, keras.ops.zeros_like(counted))
        own = {"_iterations": made}
        if product_of(self.optimizer) is not None:
            # On PyTorch Nadam multiplies and assigns while it updates, otherwise before that.
            product = product_after(self.optimizer, made if self._parallel else made + 1)
            own["_u_product"] = keras.Variable(product) if self._parallel else product
        return own

    def _update_one(
        self, method: Callable[..., Any], gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        """Update one variable by the rate of its group."""
        index = self.group_of(variable)
        if index is None:
            method(gradient, variable, learning_rate)
            return
        update = functools.partial(method, gradient, variable, self._rates[index])
        with self._attributes(self._own[index]):
            if self._active[index] is None:
                update()
            else:
                run_if(self._active[index], update)

    def _update_some(
        self, method: Callable[..., Any], grads: Any, variables: Any, learning_rate: Any
    ) -> None:
        """Update variables that PyTorch updates together, each group by its rate."""
        product = product_of(self.optimizer)
        before = None if product is None else keras.ops.copy(product)
        if product is not None:
            counted = keras.ops.convert_to_tensor(self._plain["_iterations"])
            after = product_after(self.optimizer, counted + 1)
        for index, some in self._split(variables):
            own = {} if index is None else self._own[index]
            if before is not None and not own:
                product.assign(before)
            with self._attributes(own):
                rate = learning_rate if index is None else self._rates[index]
                method([grads[i] for i in some], [variables[i] for i in some], rate)
            if before is not None and not own:
                after = keras.ops.copy(product)
        if before is not None:
            product.assign(after)

    def _average(self, method: Callable[..., Any], trainable_variables: Any) -> None:
        """Update the moving averages of the weights; that of a frozen weight is the weight."""
        method(trainable_variables)
        if not self.optimizer.use_ema:
            return
        averages = self.optimizer._model_variables_moving_average
        for variable, average in zip(trainable_variables, averages, strict=True):
            index = self.group_of(variable)
            if average is None or index is None:
                continue
            if self._is_frozen(index):
                average.assign(variable)
            elif self._may_be_frozen(index):
                active = self._is_active(index)
                average.assign(keras.ops.where(active, average.value, variable.value))

    # Helpers ----------------------------------------------------------------------------------

    def _split(self, variables: Sequence[Any]) -> Iterator[tuple[int | None, list[int]]]:
        """Iterate over the groups of some variables, each with the places of its variables."""
        found: dict[int | None, list[int]] = {}
        for place, variable in enumerate(variables):
            found.setdefault(self.group_of(variable), []).append(place)
        yield from found.items()

    @contextlib.contextmanager
    def _attributes(self, values: dict[str, Any]) -> Iterator[None]:
        """Give attributes of the optimizer other values inside the context."""
        try:
            vars(self.optimizer).update(values)
            yield
        finally:
            vars(self.optimizer).update({name: self._plain[name] for name in values})


def moving_number(value: Any) -> Any:
    """Return a moving number as a tensor; PyTorch compiles a step again for each new float."""
    return keras.ops.convert_to_tensor(value) if isinstance(value, float) else value


def optimizer_has(optimizer: Any, name: str) -> bool:
    """Return whether an option of an optimizer is set."""
    return bool(getattr(optimizer, name, None))
