"""The running ``fit``: the arguments that it was called with, and the data that it holds.

Relies on (Keras 3.0 and later, and legacy Keras 2):

- Keras's ``fit`` is a Python function of that name, whose frame is on the stack while it calls its
  callbacks, with its arguments in local variables of their names. Where there is no such frame, a
  range test inside a fit is refused, and a fit is treated as a user's loop over batches. Nothing
  else changes.
- `sys._current_frames` has the innermost frame of every thread. Where it does not, an object that
  is in the fits of two threads at once is not refused.
- Its local variable ``epoch_iterator`` holds the data in ``_epoch_iterator`` and
  ``_current_iterator``. Where it does not, the data of a fit that is stopped inside an epoch are
  freed only by Python's garbage collector.
- ``_initial_epoch`` of a model is the epoch at which a restored fit resumes. Where it has another
  name, what trains a restored model again begins at that epoch too.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from types import FrameType
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
    """Return the data arguments of the ``fit`` of ``model`` that is running.

    Keras tells its callbacks nothing about the data, so they are read from the frame of ``fit``.
    The rows that ``validation_split`` set aside are in ``validation_data`` there.

    Raises:
        RuntimeError: If there is no such ``fit``.
        ValueError: If its data can be read only once.
    """
    frame = frame_of_fit(model)
    if frame is None:
        raise RuntimeError(
            "LRRangeTest: the data of this fit cannot be seen: it is not Keras's own `fit` that "
            "calls the callbacks. Run the test before: LRRangeTest().run(model, x, y)."
        )
    known = frame.f_locals
    found = {name: known[name] for name in NAMES if known[name] is not None}
    if inspect.isgenerator(found.get("x")) and "steps_per_epoch" not in found:
        raise ValueError(
            "LRRangeTest: the data of this fit are a generator, which can be read only once. Pass "
            "a keras.utils.PyDataset or tf.data.Dataset, or `steps_per_epoch` with a generator "
            "that never ends."
        )
    return found


def check_not_exhausted(**data: Any) -> None:
    """Refuse a generator that has ended although it is to be read again: Keras would read nothing.

    Raises:
        ValueError: If one of ``data`` is such a generator.
    """
    for name, value in data.items():
        if inspect.isgenerator(value) and value.gi_frame is None:
            raise ValueError(
                f"LRRangeTest: argument `{name}` must be data that can be read again, such as a "
                "keras.utils.PyDataset or tf.data.Dataset, or a generator that never ends. "
                f"Received: {name}={value!r}, which has ended"
            )


def release_data(model: Any) -> None:
    """Make the running ``fit`` of ``model`` free its data as soon as it ends.

    If it is stopped inside an epoch, Keras's iterator and the generators over its batches refer to
    each other, and keep a copy of the data until Python's garbage collector runs.
    """
    frame = frame_of_fit(model)
    iterator: Any = frame.f_locals.get("epoch_iterator") if frame else None
    for name in ("_epoch_iterator", "_current_iterator"):
        if hasattr(iterator, name):
            setattr(iterator, name, None)


def fit_validates(model: Any) -> bool:
    """Return whether the running ``fit`` of ``model`` has validation data."""
    frame = frame_of_fit(model)
    return frame is not None and frame.f_locals["validation_data"] is not None


def is_end_of_data(error: BaseException) -> bool:
    """Return whether an exception of a train function says that there are no more data."""
    return isinstance(error, StopIteration) or type(error).__name__ == "OutOfRangeError"


def frame_of_fit(model: Any) -> FrameType | None:
    """Return the frame of Keras's own ``fit`` of ``model`` on this thread's stack, if any."""
    return _find_fit(model, sys._getframe(1))


def is_fitted_by(thread: int, model: Any) -> bool:
    """Return whether a thread, given by its identifier, is in Keras's ``fit`` of ``model``."""
    frames: dict[int, FrameType] = getattr(sys, "_current_frames", dict)()
    frame = frames.get(thread)
    return frame is not None and _find_fit(model, frame) is not None


def _find_fit(model: Any, innermost: FrameType) -> FrameType | None:
    for frame, _ in traceback.walk_stack(innermost):
        known = frame.f_locals
        if (
            frame.f_code.co_name == "fit"
            and known.get("self") is model
            and all(name in known for name in NAMES)
        ):
            return frame
    return None


def forget_initial_epoch(model: Any) -> None:
    """Make the next ``fit`` of a model begin at its first epoch.

    `BackupAndRestore` sets the epoch at which a fit resumes, and Keras never resets it.
    """
    if getattr(model, "_initial_epoch", None):
        model._initial_epoch = None
