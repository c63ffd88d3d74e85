"""Methods that legacy Keras 2 (``tf_keras``) calls on a callback besides its hooks.

Relies on three names that ``tf_keras`` 2.15 and later call. Keras 3 never does, and a ``tf_keras``
that did not would ignore them.
"""

from __future__ import annotations


class LegacyHooks:
    """Methods by which legacy Keras asks which hooks of batches a callback has; here none."""

    def _implements_train_batch_hooks(self) -> bool:
        return False

    _implements_test_batch_hooks = _implements_train_batch_hooks
    _implements_predict_batch_hooks = _implements_train_batch_hooks
