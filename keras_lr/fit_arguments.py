"""What the `fit` that runs was called with: the data that a test inside it may use."""

from __future__ import annotations

import inspect
import sys
from typing import Any

NAMES = (
    "x",
    "y",
    "sample_weight",
    "batch_size",
    "class_weight",
    "shuffle",
    "steps_per_epoch",
    "validation_data",
    "validation_steps",
)


def arguments_of_fit(model: Any) -> dict[str, Any]:
    """Return the data, and how to read them, of the ``fit`` of ``model`` that this is called from.

    Keras tells its callbacks nothing about the data, so they are read from the frame of ``fit``.
    A share that ``validation_split`` took away is in ``validation_data`` there.

    Raises:
        RuntimeError: If there is no such ``fit``.
        ValueError: If its data can be read only once.
    """
    frame = sys._getframe(1)
    while frame is not None:
        known = frame.f_locals
        if (
            frame.f_code.co_name == "fit"
            and known.get("self") is model
            and all(name in known for name in NAMES)
        ):
            break
        frame = frame.f_back  # type: ignore[assignment]
    else:
        raise RuntimeError(
            "LRRangeTest: the data of this fit cannot be seen: it is not Keras's own `fit` that "
            "calls the callbacks. Run the test before: LRRangeTest().run(model, x, y)."
        )
    found = {name: known[name] for name in NAMES if known[name] is not None}
    if inspect.isgenerator(found.get("x")) and "steps_per_epoch" not in found:
        raise ValueError(
            "LRRangeTest: the data of this fit are a generator, which can be read only once. Pass "
            "a keras.utils.PyDataset or tf.data.Dataset, or `steps_per_epoch` with a generator "
            "that never ends."
        )
    return found
