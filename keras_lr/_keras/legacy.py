"""What legacy Keras 2 asks of a callback."""

from __future__ import annotations


class LegacyHooks:
    """What legacy Keras 2, ``tf_keras``, asks of a callback besides its hooks."""

    def _implements_train_batch_hooks(self) -> bool:
        return False

    _implements_test_batch_hooks = _implements_train_batch_hooks
    _implements_predict_batch_hooks = _implements_train_batch_hooks
