"""Additional values in the progress bar of a fit.

Relies on (Keras 3.12 and later): the list of callbacks holds a ``ProgbarLogger``, whose
``on_train_batch_end`` shows all that is in the logs, and reads it when it draws. An instance
attribute with the name of a hook is called instead of the method. Where there is no such bar, as
with ``verbose=0`` or in legacy Keras, nothing is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

_HOOK = "on_train_batch_end"


def show_in_progress_bar(
    callbacks: Iterable[Any], values: Callable[[int], Mapping[str, Any]]
) -> Callable[[], None]:
    """Show values next to the metrics in the progress bar of a fit, at every batch.

    No other callback sees the values, and Keras calls the bar as it did before.

    Args:
        callbacks: The callbacks of the fit.
        values: Returns what to show for the batch of the given number.

    Returns:
        A function that removes the values from the bar.
    """
    bars = [one for one in callbacks if isinstance(one, keras.callbacks.ProgbarLogger)]
    for bar in bars:
        _add_values(bar, values)

    def undo() -> None:
        for bar in bars:
            vars(bar).pop(_HOOK, None)

    return undo


def _add_values(bar: Any, values: Callable[[int], Mapping[str, Any]]) -> None:
    vars(bar).pop(_HOOK, None)  # an exception may have ended another fit with this bar
    show = getattr(bar, _HOOK)

    def show_with_values(batch: int, logs: Mapping[str, Any] | None = None) -> None:
        show(batch, {**(logs or {}), **values(batch)})

    setattr(bar, _HOOK, show_with_values)
