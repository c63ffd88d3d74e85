"""The layers inside a model, and the variables of each.

Relies on ``_flatten_layers`` of Keras 3, which lists the layers inside a layer at any depth. Where
it is missing, the layers that a model lists itself are known.
"""

from __future__ import annotations

from typing import Any


def layers_in(model: Any) -> list[Any]:
    """Return all layers inside a model, at any depth."""
    flatten = getattr(model, "_flatten_layers", None)
    return list(getattr(model, "layers", ())) if flatten is None else flatten(include_self=False)


def path_of(variable: Any) -> str:
    """Return the path of a variable, which Keras's own `OptimizerMap` matches too."""
    return str(getattr(variable, "path", None) or variable.name)
