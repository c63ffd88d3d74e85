"""How the callbacks of this package stand among the other callbacks of a fit."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any

import keras

from keras_lr._keras.legacy import LegacyHooks

_BATCH_HOOKS = ("on_train_batch_begin", "on_batch_begin"), ("on_train_batch_end", "on_batch_end")


class Ahead(LegacyHooks, keras.callbacks.Callback):
    """Hears of an epoch's end before any other callback, which may write a checkpoint then."""

    async_safe = True

    def __init__(self, end: Callable[[dict[str, Any]], None]) -> None:
        """Call ``end`` with the logs of each epoch."""
        super().__init__()
        self.end = end

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Pass it on."""
        self.end({} if logs is None else logs)


def move_to_front(group: Any, end: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Let ``end`` hear of each epoch's end first; call it from ``on_train_begin``.

    A ``BackupAndRestore`` that stands before a callback of this package goes behind it: what it
    writes is then never ahead of the state of ours, also where that hangs on a metric which another
    callback writes into the logs.

    Returns:
        What puts the callbacks back into their order, and the hooks that are spared back in.
    """
    if group is None:
        return lambda: None
    found = [callback for callback in group.callbacks if not isinstance(callback, Ahead)]
    last = max((i for i, one in enumerate(found) if isinstance(one, LegacyHooks)), default=-1)
    backups = [callback for callback in found[: last + 1] if _is_backup(callback)]
    others = [callback for callback in found[: last + 1] if not _is_backup(callback)]
    # A new list, since Keras is iterating over the old one.
    group.callbacks = [Ahead(end), *others, *backups, *found[last + 1 :]]
    return functools.partial(_step_back, group, found)


def _step_back(group: Any, found: list[Any]) -> None:
    _spare_none(group)
    places = {id(callback): place for place, callback in enumerate(found)}
    here = [callback for callback in group.callbacks if not isinstance(callback, Ahead)]
    group.callbacks = sorted(here, key=lambda callback: places.get(id(callback), len(found)))


def skip_unused_batch_hooks(group: Any) -> None:
    """Take out the hooks of batches that no callback has, once all have begun.

    To call them, Keras waits for the loss of each step, or hands them to a pool of threads.
    """
    if type(group) is not keras.callbacks.CallbackList:
        return
    _spare_none(group)  # an exception may have ended a fit of another model with this list
    for hook, alias in _BATCH_HOOKS:
        if all(_is_default(one, name) for one in group.callbacks for name in (hook, alias)):
            setattr(group, hook, _unheard)


def _spare_none(group: Any) -> None:
    """Put the hooks of batches back in."""
    for hook, _ in _BATCH_HOOKS:
        mine = vars(group).get(hook)
        if mine is _unheard or isinstance(mine, _GoOn):
            delattr(group, hook)


def _unheard(batch: int, logs: dict[str, Any] | None = None) -> None:
    """Stand in for a hook of batches that no callback has."""


def _is_default(callback: Any, hook: str) -> bool:
    return getattr(getattr(callback, hook, None), "_is_default", False)


class _GoOn:
    """Stands in for the hook of one batch that begins."""

    def __init__(self, group: Any, resume: Callable[[], None]) -> None:
        self.group, self.resume = group, resume

    def __call__(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        _spare_none(self.group)
        self.resume()
        self.group.on_train_batch_begin(batch, logs)


def call_at_next_batch(group: Any, resume: Callable[[], None]) -> None:
    """Call ``resume`` when the next batch of the fit begins."""
    if group is not None:
        group.on_train_batch_begin = _GoOn(group, resume)


def conflicting_callbacks(group: Any) -> list[Any]:
    """Return the callbacks of Keras itself that set the learning rate."""
    kinds = keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau
    return [one for one in getattr(group, "callbacks", []) if isinstance(one, kinds)]


def is_on_call_stack(group: Any) -> bool:
    """Return whether a callback of this list is being called."""
    frames = traceback.walk_stack(sys._getframe(1))
    return group is not None and any(f.f_locals.get("self") is group for f, _ in frames)


def callback_list() -> Any:
    """Return the list of callbacks whose hook this is called from; None if a loop has no list."""
    for frame, _ in traceback.walk_stack(sys._getframe(1)):
        group: Any = frame.f_locals.get("self")
        if type(group).__name__ == "CallbackList" and isinstance(group.callbacks, list):
            return group
    return None


def _is_backup(callback: Any) -> bool:
    return any(kind.__name__ == "BackupAndRestore" for kind in type(callback).__mro__)
