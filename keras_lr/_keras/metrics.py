"""Whether more of a metric is better."""

from __future__ import annotations

import re
from typing import Any

import keras


def goes_up(owner: str, model: Any, monitor: str, mode: str) -> bool:
    """Return whether more of a monitored value is better, by ``mode`` or by the metric itself.

    Keras makes the metrics that a model is compiled with in its first step; ask after that.

    Raises:
        ValueError: If the mode is ``"auto"`` and the metric does not say.
    """
    name = monitor.removeprefix("val_")
    if mode != "auto" or name == "loss":
        return mode == "max"
    known = _directions(model)
    said = {up for called, up in known.items() if _may_be(name, called)}
    up = said.pop() if len(said) == 1 else None
    if up is None and "acc" in name and not isinstance(model, keras.Model):
        up = True  # the rule of legacy Keras
    if up is None:
        raise ValueError(
            f"{owner}: argument `mode` must be 'min' or 'max' for a metric whose direction is "
            f"unknown. Received: mode='auto', monitor={monitor!r}. Known are: "
            f"{', '.join(name for name, up in known.items() if up is not None)}"
        )
    return up


def _directions(model: Any) -> dict[str, bool | None]:
    """Return whether more is better for each metric of the model; None where nobody knows."""
    losses = getattr(getattr(model, "_compile_loss", None), "metrics", [])
    found: dict[str, bool | None] = dict.fromkeys(("loss", *(one.name for one in losses)), False)
    for name, metric in _named(model.metrics):
        known = metric if isinstance(metric, keras.metrics.Metric) else _counterpart(metric)
        said = getattr(known, "_direction", None)
        found.setdefault(name, None if said is None else said == "up")
    return found


def _counterpart(metric: Any) -> Any:
    """Return the metric of Keras that is called like one of legacy Keras, which has no direction.

    None where there is none.
    """
    function = getattr(metric, "_fn", type(metric))
    try:
        return keras.metrics.get(function.__name__)
    except (TypeError, ValueError):
        return None


def _may_be(name: str, called: str) -> bool:
    """Whether the logs may call a metric by a name: of several alike Keras changes the names."""
    pattern = re.escape(called) + r"(_\d+)?"
    return any(re.fullmatch(pattern, n) for n in (name, name.replace("weighted_", "", 1)))


def _named(metrics: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the single metrics, each with its name in the logs, which begins with its output's."""
    found = []
    for metric in metrics:
        # A metric of legacy Keras has such a list too, which is empty.
        inner = getattr(metric, "metrics", None)
        if getattr(metric, "_flat_metrics", None):
            lists = metric._flat_metrics + metric._flat_weighted_metrics
            for one in filter(None, lists):
                found += _named(one.metrics, f"{one.output_name}_" if one.output_name else "")
        elif inner:
            found += _named(inner, prefix)
        else:
            found.append((prefix + metric.name, metric))
    return found
