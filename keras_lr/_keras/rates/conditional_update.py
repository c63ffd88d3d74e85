"""Assignments to variables that take effect only under a condition of the running step.

Relies on (Keras 3.12 and later): ``keras.src.backend.common.stateless_scope`` returns the scope in
which a JAX step is traced, and ``state_mapping`` of that scope holds what the step has assigned so
far. There is no public access to it. Where one is missing, `check_can_run_if` raises before a fit
trains. TensorFlow has ``tf.cond``, and PyTorch, which compiles nothing, needs only Python's ``if``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_lr._keras.private_modules import find_module

_STATELESS_SCOPE = "keras.src.backend.common.stateless_scope"


def check_can_run_if() -> None:
    """Refuse a version of Keras in which `run_if` cannot work.

    Raises:
        RuntimeError: If this is such a version.
    """
    if keras.backend.backend() in ("tensorflow", "torch"):
        return
    missing = [] if _scope_module() is not None else [_STATELESS_SCOPE]
    if not hasattr(keras.StatelessScope(), "state_mapping"):
        missing.append("keras.StatelessScope.state_mapping")
    if missing:
        raise RuntimeError(
            f"Keras {keras.__version__} has no {' and no '.join(missing)}, by which keras_lr "
            f"freezes variables inside a step of {keras.backend.backend()}. Give the parts of the "
            "model factors that are numbers: they need no schedule that is 0 for a while."
        )


def run_if(condition: Any, update: Callable[[], Any]) -> None:
    """Run ``update``, whose assignments take effect only where ``condition`` is true."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def changed() -> Any:
            update()
            return tf.constant(0)

        tf.cond(condition, changed, lambda: tf.constant(0))
        return
    module = _scope_module()
    scope = None if module is None else module.get_stateless_scope()
    if scope is None:
        if condition:
            update()
        return
    before = dict(scope.state_mapping)
    update()
    for key, value in scope.state_mapping.items():
        if key in before and value is not before[key]:
            scope.state_mapping[key] = keras.ops.where(condition, value, before[key])


def _scope_module() -> Any:
    return find_module(_STATELESS_SCOPE, "get_stateless_scope")
