"""What a fit changes on the list of callbacks that Keras calls, and puts back.

Relies on (Keras 3.0 and later, and legacy Keras 2 for all but the batch hooks):

- A list of callbacks is an object whose class is called ``CallbackList`` and whose attribute
  ``callbacks`` is a list, which is read anew for each hook. Where no such object calls, as in a
  loop that calls the hooks itself, nothing is changed: a checkpoint that another callback writes at
  an epoch's end may then be ahead of the state of ours, and metrics are not put back.
- Keras marks a hook that nobody overrides by ``_is_default``. Where the mark is missing, every hook
  counts as overridden, and none is skipped.
- An attribute of the instance with the name of a hook is called in the place of the method.
"""

from __future__ import annotations

import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import keras

from keras_lr._keras.legacy import LegacyHooks

_BATCH_HOOKS = {
    "on_train_batch_begin": "on_batch_begin",
    "on_train_batch_end": "on_batch_end",
}
"""The hooks of batches, each with its older name."""


class FrontCallback(LegacyHooks, keras.callbacks.Callback):
    """Callback that stands before all others, which may write a checkpoint at an epoch's end."""

    async_safe = True

    def __init__(self, on_epoch_end: Callable[[dict[str, Any]], None]) -> None:
        """Call ``on_epoch_end`` with the logs of each epoch."""
        super().__init__()
        self._handler = on_epoch_end

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Hand over the logs."""
        self._handler({} if logs is None else logs)


class CallbackListPatch:
    """Everything that one fit changes on its list of callbacks, and puts back.

    The list is held weakly. Keras's ``fit`` alone holds a list that it has made, so that the list
    is gone as soon as an exception ends the fit: `on_abandoned` is the way to learn of that.
    """

    def __init__(self) -> None:
        """Find the list whose hook this is called from; a loop without a list has none."""
        group = callback_list()
        self._group = None if group is None else weakref.ref(group)
        self._found: list[Any] | None = None
        """The callbacks in the order in which the fit began."""

    @property
    def group(self) -> Any:
        """The list; None where there is none, or none anymore."""
        return None if self._group is None else self._group()

    def is_calling(self) -> bool:
        """Return whether a callback of the list is being called."""
        return is_on_call_stack(self.group)

    def on_abandoned(self, action: Callable[[], object]) -> Callable[[], object]:
        """Call ``action`` when the list is gone; return what takes that back."""
        group = self.group
        if group is None:
            return lambda: None
        finalizer = weakref.finalize(group, action)
        finalizer.atexit = False
        return finalizer.detach

    def move_to_front(self, on_epoch_end: Callable[[dict[str, Any]], None]) -> None:
        """Let ``on_epoch_end`` be called with each epoch's logs first; for ``on_train_begin``.

        A ``BackupAndRestore`` that stands before a callback of this package goes behind it: what
        it writes is then never ahead of the state of ours, also where that depends on a metric
        which another callback writes into the logs.
        """
        group = self.group
        if group is None:
            return
        found = [one for one in group.callbacks if not isinstance(one, FrontCallback)]
        last = max((i for i, one in enumerate(found) if isinstance(one, LegacyHooks)), default=-1)
        backups = [one for one in found[: last + 1] if _is_backup(one)]
        others = [one for one in found[: last + 1] if not _is_backup(one)]
        # A new list, since Keras is iterating over the old one.
        group.callbacks = [FrontCallback(on_epoch_end), *others, *backups, *found[last + 1 :]]
        self._found = found

    def skip_unused_batch_hooks(self) -> None:
        """Skip the hooks of batches that no callback has, once all callbacks have begun.

        To call them, Keras waits for the loss of each step, or hands them to a pool of threads.
        """
        group = self.group
        if type(group) is not keras.callbacks.CallbackList:
            return
        _restore_hooks(group)  # an exception may have ended a fit of another model with this list
        for hook, alias in _BATCH_HOOKS.items():
            if all(_is_default(one, name) for one in group.callbacks for name in (hook, alias)):
                setattr(group, hook, _skip)

    def call_at_next_batch(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the next batch of the fit begins."""
        group = self.group
        if group is not None:
            group.on_train_batch_begin = _BatchHook(self, action)

    def restore(self) -> None:
        """Put the callbacks back into their order, and the hooks of batches back in."""
        group = self.group
        if group is None or self._found is None:
            return
        _restore_hooks(group)
        places = {id(one): place for place, one in enumerate(self._found)}
        here = [one for one in group.callbacks if not isinstance(one, FrontCallback)]
        # Those added during the fit stay behind the others.
        group.callbacks = sorted(here, key=lambda one: places.get(id(one), len(places)))


class _BatchHook:
    """Hook of one batch that begins, which first calls an action."""

    def __init__(self, patch: CallbackListPatch, action: Callable[[], None]) -> None:
        self.patch, self.action = patch, action

    def __call__(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        group = self.patch.group
        _restore_hooks(group)
        self.action()
        group.on_train_batch_begin(batch, logs)


def _skip(batch: int, logs: dict[str, Any] | None = None) -> None:
    """Stand in for a hook of batches that no callback has."""


def _restore_hooks(group: Any) -> None:
    """Let a list call its hooks of batches again."""
    for hook in _BATCH_HOOKS:
        ours = vars(group).get(hook)
        if ours is _skip or isinstance(ours, _BatchHook):
            delattr(group, hook)


def _is_default(callback: Any, hook: str) -> bool:
    return getattr(getattr(callback, hook, None), "_is_default", False)


def _is_backup(callback: Any) -> bool:
    return any(kind.__name__ == "BackupAndRestore" for kind in type(callback).__mro__)


def conflicting_callbacks(group: Any) -> list[Any]:
    """Return the callbacks of Keras itself that set the learning rate."""
    kinds = keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau
    return [one for one in getattr(group, "callbacks", []) if isinstance(one, kinds)]


def is_on_call_stack(group: Any) -> bool:
    """Return whether a method of ``group`` is running in this thread."""
    frames = traceback.walk_stack(sys._getframe(1))
    return group is not None and any(frame.f_locals.get("self") is group for frame, _ in frames)


def callback_list() -> Any:
    """Return the list of callbacks whose hook this is called from; None if a loop has no list."""
    for frame, _ in traceback.walk_stack(sys._getframe(1)):
        group: Any = frame.f_locals.get("self")
        if type(group).__name__ == "CallbackList" and isinstance(group.callbacks, list):
            return group
    return None
