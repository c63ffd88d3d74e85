"""`MeanUpdates`: what a training step adds to the mean that it logs as its loss.

The loss of a batch cannot be recovered exactly from Keras's running mean, whose float32 sum has
lost its low digits. So what the step adds to the sum is noted before it is added.

Relies on (Keras 3.0 and later):

- ``keras.metrics.Mean`` adds to its variables ``total`` and ``count`` by their ``assign_add``,
  ``keras.metrics.Sum`` to ``total`` alone. The training step puts what ``result`` returns into its
  logs unchanged. Where a step adds in another way, nothing is noted, and the loss is recovered from
  the running mean. Where the logs hold another object, its numbers show whether it is this mean.
- If ``Mean.update_state`` gets a single number, this is what it adds to the total divided by what
  it adds to the count, whatever the weight. Keras's training step passes the loss in this way.
- A tensor that is being traced has a ``graph`` (TensorFlow, public) or a ``_trace`` (JAX). A tensor
  of a trace nested inside the step's cannot be noted. Where JAX has another name for it, nothing is
  noted, and the loss is recovered from the running mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras

_TRACES = "graph", "_trace"


def find_means(model: Any) -> list[Any]:
    """Return the metrics of a model that are plain means or sums, whatever their names."""
    if not isinstance(model, keras.Model):
        return []
    found: dict[int, Any] = {}
    for metric in (*model.metrics, *metrics_held_by(model)):
        if is_mean(metric) or is_sum(metric):
            found[id(metric)] = metric
    return list(found.values())


def is_mean(metric: Any) -> bool:
    """Return whether the result of a metric is its ``total`` divided by its ``count``."""
    return isinstance(metric, keras.metrics.Mean) and (
        type(metric).result is keras.metrics.Mean.result
    )


def is_sum(metric: Any) -> bool:
    """Return whether the result of a metric is its ``total``."""
    return isinstance(metric, keras.metrics.Sum) and type(metric).result is keras.metrics.Sum.result


def metrics_held_by(model: Any) -> list[Any]:
    """Return the metrics in a model's attributes, even those that ``metrics`` does not list."""
    return list(_metrics_in(vars(model).values(), 2))


def _metrics_in(values: Any, depth: int) -> Iterator[Any]:
    for value in values:
        if isinstance(value, keras.metrics.Metric):
            yield value
        elif depth and isinstance(value, list | tuple):
            yield from _metrics_in(value, depth - 1)
        elif depth and isinstance(value, dict):
            yield from _metrics_in(value.values(), depth - 1)


class LossUpdate(NamedTuple):
    """Amounts that a step added to the mean of its loss, or to a sum with a count of 1."""

    mean: Any
    is_logged: bool
    """Whether the step is known to log the result of the mean as its loss."""
    total: Any = None
    count: Any = None
    loss: Any = None
    """The total divided by the count, if the step has computed it and logs this mean."""
    may_be_derived: bool = False
    """Whether the step may log as its loss what it has computed from results of metrics."""

    def without_values(self) -> LossUpdate:
        """Return what is known of every step, without the tensors of one."""
        return self._replace(total=None, count=None, loss=None)


class MeanUpdates:
    """Context manager that notes what is added to some means."""

    def __init__(self, means: list[Any], others: Iterable[Any] = ()) -> None:
        """Watch what is added to ``means``, and whether ``others`` are logged."""
        self.means = means
        self._results: list[tuple[Any, Any]] = []
        self._added: dict[int, dict[str, list[Any]]] = {
            id(mean): {name: [] for name in ("total", "count") if hasattr(mean, name)}
            for mean in means
        }
        self._values: dict[int, list[Any]] = {id(mean): [] for mean in means}
        self._patches = [patch for mean in means for patch in self._patches_of(mean)]
        rest = (metric for metric in others if id(metric) not in self._added)
        self._patches += [(vars(one), "result", self._noting_result(one)) for one in rest]

    def _patches_of(self, mean: Any) -> Iterator[tuple[dict[str, Any], str, Any]]:
        for name, added in self._added[id(mean)].items():
            variable = getattr(mean, name)
            yield vars(variable), "assign_add", _noting(variable.assign_add, added)
        if type(mean).update_state is keras.metrics.Mean.update_state:
            yield vars(mean), "update_state", _noting(mean.update_state, self._values[id(mean)])
        yield vars(mean), "result", self._noting_result(mean)

    def _noting_result(self, metric: Any) -> Callable[[], Any]:
        plain = metric.result

        def result() -> Any:
            value = plain()
            self._results.append((value, metric))
            return value

        return result

    def __enter__(self) -> MeanUpdates:
        self._results.clear()
        added = itertools.chain.from_iterable(one.values() for one in self._added.values())
        for noted in (*added, *self._values.values()):
            noted.clear()
        for attributes, name, function in self._patches:
            attributes[name] = function
        return self

    def __exit__(self, *error: Any) -> None:
        for attributes, name, _ in self._patches:
            attributes.pop(name, None)

    def cumulative(self, logs: Any) -> frozenset[str]:
        """Return the log names of the metrics that are not means.

        A sum that is logged as the loss is left out: what is added to it is the batch's loss.
        """
        if not isinstance(logs, dict):
            return frozenset()
        others = [(value, is_sum(one)) for value, one in self._results if not is_mean(one)]
        found = {
            name
            for name, logged in logs.items()
            for value, sums in others
            if value is logged and not (sums and name == "loss")
        }
        if self._may_derive_loss(logs) and self.of_loss(logs) is None:
            found.add("loss")
        return frozenset(found)

    def _may_derive_loss(self, logs: dict[str, Any]) -> bool:
        """Return whether the loss in the logs may be computed from results of metrics.

        It may if it is no result itself, and the step has asked for a result that it does not log.
        One of a metric that is called ``"loss"`` may have made way for the loss of the batch.
        """
        logged = {id(value) for value in keras.tree.flatten(logs)}
        own = {id(value) for value, _ in self._results}
        unlogged = [one for value, one in self._results if id(value) not in logged]
        return id(logs.get("loss")) not in own and any(one.name != "loss" for one in unlogged)

    def of_loss(self, logs: Any, trace: Any = None) -> LossUpdate | None:
        """Return what was added to the mean that a step logs as its loss.

        If the loss is not the result of a watched mean, it may be computed from one: then the mean
        called ``"loss"`` is taken, or else another. Return None if this trace added nothing to it.

        Args:
            logs: What the step logs.
            trace: A tensor of the trace of the step, if it is being traced.
        """
        loss = logs.get("loss") if isinstance(logs, dict) else None
        if loss is None:
            return None
        logged = [metric for value, metric in self._results if value is loss]
        if any(id(metric) not in self._added for metric in logged):
            return None
        others = sorted(filter(is_mean, self.means), key=lambda mean: mean.name != "loss")
        for mean in logged[:1] or others:
            totals = self._added[id(mean)]["total"]
            counts = self._added[id(mean)].get("count")
            values = *totals, *(counts or ())
            if totals and (counts is None or len(totals) == len(counts)):
                if not all(_is_of_trace(one, trace) for one in values):
                    return None
                total = _sum(totals)
                if counts is None:
                    return LossUpdate(mean, True, total, 1.0, total)
                loss = self._single_value(mean, trace) if logged else None
                derived = not logged and self._may_derive_loss(logs)
                return LossUpdate(mean, bool(logged), total, _sum(counts), loss, derived)
        return None

    def _single_value(self, mean: Any, trace: Any) -> Any:
        """Return the number of a mean's only update; None if there are more or it is unknown."""
        values = self._values[id(mean)]
        if len(values) != 1 or len(self._added[id(mean)]["total"]) != 1:
            return None
        (value,) = values
        is_number = getattr(value, "shape", None) == () and _is_of_trace(value, trace)
        return value if is_number else None


def _noting(function: Any, noted: list[Any]) -> Any:
    """Return a function that also notes its first argument."""

    def noting(*arguments: Any, **named: Any) -> Any:
        noted.append(arguments[0] if arguments else next(iter(named.values())))
        return function(*arguments, **named)

    return noting


def _sum(values: list[Any]) -> Any:
    total, *more = values
    for value in more:
        total = total + value
    return total


def _is_of_trace(value: Any, tensor: Any) -> bool:
    """Return whether a value may be used in the trace that a tensor belongs to."""
    trace = _trace_of(value)
    return trace is None or trace is _trace_of(tensor)


def _trace_of(value: Any) -> Any:
    """Return the trace that a value belongs to, or None if the value is not being traced.

    If JAX does not tell, it is another trace each time.
    """
    for name in _TRACES:
        trace = getattr(value, name, None)
        if trace is not None:
            return trace
    if keras.backend.backend() == "jax":
        import jax

        return object() if isinstance(value, jax.core.Tracer) else None
    return None
