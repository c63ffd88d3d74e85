"""Properties of a model's losses and metrics: which way is better, and whether zero is the minimum.

Relies on names of Keras 3 (the same in 3.12 and 3.15) that are not promised: ``_direction`` of a
metric, ``_compile_loss`` of a model, and the ``_flat_metrics``, ``_flat_weighted_metrics`` and
``output_name`` of compiled metrics. Where one is missing, the direction of the metrics behind it is
unknown, and the error asks for ``mode``. Where one of the lists is missing, no compiled metric
counts as a mean over samples. ``_fn`` is a name of legacy Keras: a metric without it is looked for
by the name of its class. Keras's own losses are recognized by their names, and its own training
step by the module that defines it.
"""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np

from keras_lr._keras.fits.mean_updates import is_mean, metrics_held_by
from keras_lr._keras.host_values import to_numpy

ZERO_MINIMUM_LOSSES = frozenset(
    {
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_generalized_cross_entropy",
        "categorical_hinge",
        "circle",
        "ctc",
        "dice",
        "hinge",
        "huber",
        "kl_divergence",
        "kldivergence",
        "log_cosh",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "sparse_categorical_crossentropy",
        "squared_hinge",
        "tversky",
    }
)
"""Names of Keras's loss functions whose minimum is zero, reached by a perfect prediction."""

_LISTS = "_flat_metrics", "_flat_weighted_metrics"
"""Keras's names for the lists of compiled metrics, without and with sample weights."""

SATURATED = 1e-4
"""Classification loss below which every sample counts as classified correctly."""

SQUARED, ABSOLUTE = ("mean_squared_error", "huber", "log_cosh"), ("mean_absolute_error",)
"""Names of Keras's regression losses that are quadratic, and linear, in a small error."""

ROUNDING = 1e-6
"""Prediction error, as a share of the targets, that is close to the rounding error of float32."""

SOME_TARGETS = 1024
"""Rows of targets from which their scale is estimated."""


def higher_is_better(owner: str, model: Any, monitor: str, mode: str) -> bool:
    """Return whether more of a monitored value is better, by ``mode`` or by the metric itself.

    Call it after the first step: only then has Keras made the metrics of ``compile``.

    Raises:
        ValueError: If the mode is ``"auto"`` and the metric has no known direction.
    """
    name = monitor.removeprefix("val_")
    if mode != "auto" or name == "loss":
        return mode == "max"
    known = _directions(model)
    directions = {up for called, up in known.items() if _matches_log_name(name, called)}
    up = directions.pop() if len(directions) == 1 else None
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
    """Return whether more is better for each metric of the model; None if that is unknown."""
    losses = getattr(getattr(model, "_compile_loss", None), "metrics", [])
    found: dict[str, bool | None] = dict.fromkeys(("loss", *(one.name for one in losses)), False)
    for name, metric in _metrics_by_log_name(model.metrics):
        known = metric if isinstance(metric, keras.metrics.Metric) else _counterpart(metric)
        direction = getattr(known, "_direction", None)
        found.setdefault(name, None if direction is None else direction == "up")
    return found


def cumulative_metrics(model: Any) -> set[str]:
    """Return the log names of the metrics that are not a mean over the samples of an epoch.

    Examples are AUC, recall, the root of a mean, and a sum: the value of a batch does not follow
    from the values of the epoch so far. Nor does that of a weighted metric, whose weights are not
    in the logs.
    """
    if not isinstance(model, keras.Model):
        return set()
    named = _metrics_by_log_name(model.metrics)
    known = {name for name, _ in named}
    # Keras creates a mean of the loss even for a model whose training step has its own.
    held = _metrics_by_log_name(metrics_held_by(model))
    named += [(name, metric) for name, metric in held if name not in known]
    means = {name for name, metric in named if is_mean(metric)}
    others = {name for name, metric in named if not is_mean(metric)}
    for compiled in model.metrics:
        unweighted = {name for name, _ in _metrics_in_lists(compiled, "_flat_metrics")}
        for name, _ in _metrics_in_lists(compiled, "_flat_weighted_metrics"):
            others.add(name if name not in unweighted else f"weighted_{name}")
            means -= {name} - unweighted
        if not all(hasattr(compiled, name) for name in _LISTS):
            unknown = _possible_log_names(model, compiled)
            others |= unknown
            means -= unknown
    return others - means


def _possible_log_names(model: Any, compiled: Any) -> set[str]:
    """Return the names that compiled metrics may have in the logs, weighted ones or not."""
    if not _is_of_keras(type(compiled)):
        return set()
    outputs = ("", *(f"{name}_" for name in getattr(model, "output_names", None) or ()))
    names = [one.name for one in getattr(compiled, "metrics", None) or ()]
    weights = "", "weighted_"
    return {f"{output}{weight}{name}" for output in outputs for weight in weights for name in names}


def find_cumulative_metrics(model: Any) -> list[Any]:
    """Return the metrics of a model that are not means, if its training step may rename them.

    Keras's own step logs every metric under its own name: for it the list is empty.
    """
    if not isinstance(model, keras.Model) or not has_own_train_step(model):
        return []
    named = _metrics_by_log_name((*model.metrics, *metrics_held_by(model)))
    return [*{id(metric): metric for _, metric in named if not is_mean(metric)}.values()]


def _counterpart(metric: Any) -> Any:
    """Return the Keras 3 metric named like one of legacy Keras, which has no direction itself."""
    function = getattr(metric, "_fn", type(metric))
    try:
        return keras.metrics.get(function.__name__)
    except (TypeError, ValueError):
        return None


def _matches_log_name(name: str, called: str) -> bool:
    """Return whether a metric may have a name in the logs: Keras numbers metrics of equal name."""
    pattern = re.escape(called) + r"(_\d+)?"
    return any(re.fullmatch(pattern, n) for n in (name, name.replace("weighted_", "", 1)))


def _metrics_by_log_name(metrics: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the single metrics with their log names, which begin with the name of their output."""
    found = []
    for metric in metrics:
        # A metric of legacy Keras has such a list too, which is empty.
        inner = getattr(metric, "metrics", None)
        if getattr(metric, "_flat_metrics", None):
            found += _metrics_in_lists(metric, "_flat_metrics")
            found += _metrics_in_lists(metric, "_flat_weighted_metrics")
        elif inner:
            found += _metrics_by_log_name(inner, prefix)
        else:
            found.append((prefix + metric.name, metric))
    return found


def has_own_train_step(model: Any) -> bool:
    """Return whether a model's training step is not Keras's."""
    step = vars(model).get("train_step", type(model).train_step)
    return not _is_of_keras(step)


def has_zero_minimum(model: Any) -> bool:
    """Return whether the minimum of a model's loss is known to be zero.

    It is zero for most of Keras's own losses. Others may have any minimum.
    """
    names = _names_of_losses(model)
    return bool(names) and ZERO_MINIMUM_LOSSES.issuperset(names)


def negligible_loss(model: Any, y: Any) -> float:
    """Return the loss below which a model has nothing left to learn; 0 where that is not known.

    It is known for Keras's own losses: a classification loss has a scale of its own, and a
    regression loss has the scale of the targets.

    Args:
        model: A compiled model.
        y: Its targets, if they are an array.
    """
    (name, *more) = _names_of_losses(model) or [""]
    if more or name not in ZERO_MINIMUM_LOSSES:
        return 0.0
    if not name.startswith("mean_") and name not in SQUARED:
        return SATURATED
    if not hasattr(y, "shape") or name not in SQUARED + ABSOLUTE:
        return 0.0
    try:
        targets = np.abs(np.asarray(to_numpy(y[:SOME_TARGETS]), np.float64))
    except (TypeError, ValueError):  # not a dense array
        return 0.0
    power = 2 if name in SQUARED else 1
    return ROUNDING**power * float(np.mean(targets**power))


def _names_of_losses(model: Any) -> list[str]:
    """Return the names of the losses that a model is compiled with; "" for each not of Keras."""
    if has_own_train_step(model) or not _is_of_keras(type(model).compute_loss):
        return []
    losses = keras.tree.flatten(getattr(model, "loss", None))
    return [_name_of_loss(loss) for loss in losses if loss is not None]


def _name_of_loss(loss: Any) -> str:
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except (TypeError, ValueError):
            return ""
    function = getattr(loss, "fn", loss)
    return _name_of(function) if _is_of_keras(loss) and _is_of_keras(function) else ""


def _is_of_keras(thing: Any) -> bool:
    """Return whether Keras defines a function, or the class of an object."""
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return module.partition(".")[0] in ("keras", "tf_keras")


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__).lower()


def _metrics_in_lists(compiled: Any, attribute: str) -> list[tuple[str, Any]]:
    """Return the metrics of one attribute of compiled metrics, each with its name in the logs."""
    found = []
    for one in filter(None, getattr(compiled, attribute, None) or []):
        output = getattr(one, "output_name", None)
        found += _metrics_by_log_name(one.metrics, f"{output}_" if output else "")
    return found
