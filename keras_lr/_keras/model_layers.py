"""The layers inside a model, and the variables of each.

Relies on ``_flatten_layers`` (Keras 3.0 and later), which lists the layers inside a layer at any
depth. Where it is missing, only the layers that a model lists itself are known.
"""

from __future__ import annotations

from typing import Any

import keras


def layers_in(model: Any) -> list[Any]:
    """Return all layers inside a model, at any depth."""
    flatten = getattr(model, "_flatten_layers", None)
    return list(getattr(model, "layers", ())) if flatten is None else flatten(include_self=False)


def is_model_built(model: Any) -> bool:
    """Return whether a model has its variables.

    ``built`` alone does not say so: ``model.build(input_shape)`` of a subclassed model sets it,
    and may build no layer. A model that was called may have layers that are never called. A model
    without ``call``, such as a GAN that trains two models, is never built itself.
    """
    built = [layer.built for layer in layers_in(model)]
    if type(model).call is keras.Model.call:
        return all(built) if built else bool(model.built)
    return bool(model.built) and (any(built) or not built)


def path_of(variable: Any) -> str:
    """Return the path of a variable, which Keras's own `OptimizerMap` matches too."""
    return str(getattr(variable, "path", None) or variable.name)
