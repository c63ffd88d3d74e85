"""`CallbackListPatch`: what a fit changes on Keras's list of callbacks, and puts back.

Relies on (Keras 3.0 and later, and legacy Keras 2 for all but the batch hooks):

- A list of callbacks is an object whose class is called ``CallbackList`` and whose attribute
  ``callbacks`` is a list, which is read again for each hook. Where no such object calls, as in a
  loop that calls the hooks itself, nothing is changed: a checkpoint that another callback writes at
  the end of an epoch may then be ahead of the state of this package's callbacks, and metrics are
  not put back.
- Keras marks a hook that no subclass overrides by ``_is_default``. Where the mark is missing, every
  hook counts as overridden, and none is skipped.
- An instance attribute with the name of a hook is called instead of the method.
"""

from __future__ import annotations

import itertools
import sys
import traceback
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_lr._keras.legacy import LegacyHooks, class_for_object

_BATCH_HOOKS = {
    "on_train_batch_begin": "on_batch_begin",
    "on_train_batch_end": "on_batch_end",
}
"""The batch hooks, each with its older name."""
_HOOKS = (
    *("on_epoch_begin", "on_epoch_end", *_BATCH_HOOKS, "on_train_end"),
    *("on_test_begin", "on_test_end", "on_test_batch_begin", "on_test_batch_end"),
)
"""The hooks that are called during a fit, after ``on_train_begin``."""
_CONTINUING_HOOKS = {"on_epoch_begin", *_BATCH_HOOKS}
"""The hooks after which the epoch continues."""


def given_callbacks(fit: dict[str, Any]) -> list[Any]:
    """Return the callbacks among the arguments of ``fit``."""
    return keras.tree.flatten(fit.get("callbacks") or [])


def refuse_classes(callbacks: Iterable[Any]) -> None:
    """Refuse a class in the place of a callback.

    Raises:
        TypeError: If there is one.
    """
    for one in callbacks:
        if isinstance(one, type):
            raise class_for_object(one)


class FrontCallback(LegacyHooks, keras.callbacks.Callback):
    """Callback that runs before all others, which may read a rate, log or write a checkpoint."""

    async_safe = True

    def __init__(
        self, on_epoch_begin: Callable[[int], None], on_epoch_end: Callable[[dict[str, Any]], None]
    ) -> None:
        """Call ``on_epoch_begin`` with each epoch, and ``on_epoch_end`` with its logs."""
        super().__init__()
        self._on_epoch_begin, self._handler = on_epoch_begin, on_epoch_end

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report an epoch, before other callbacks look at the rate."""
        self._on_epoch_begin(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Pass on the logs, which all callbacks share."""
        self._handler({} if logs is None else logs)


class CallbackListPatch:
    """Changes one fit's list of callbacks, and puts everything back.

    The list is held weakly. A list that ``fit`` has made is held by ``fit`` alone, so it is freed
    as soon as an exception ends the fit. `on_abandoned` reports that.
    """

    def __init__(self) -> None:
        """Find the list whose hook is running; a loop without a list has none."""
        group = callback_list()
        self._group = None if group is None else weakref.ref(group)
        self._original_order: list[Any] | None = None
        """The callbacks in the order that they had when the fit began."""
        self.before_batch: Callable[[], None] | None = None
        """Called before every batch, if a callback has a hook for the start of a batch."""
        self._at_next_batch: Callable[[], None] | None = None
        self._on_exception: Callable[[BaseException], None] = lambda error: None
        self._check: Callable[[], None] = lambda: None

    @property
    def group(self) -> Any:
        """The list; None if there was none or it has been freed."""
        return None if self._group is None else self._group()

    def is_calling(self) -> bool:
        """Return whether a hook of the list is running."""
        return is_on_call_stack(self.group)

    def on_abandoned(self, action: Callable[[], object]) -> Callable[[], object]:
        """Call ``action`` when the list is freed; return a function that cancels this."""
        group = self.group
        if group is None:
            return lambda: None
        finalizer = weakref.finalize(group, action)
        finalizer.atexit = False
        return finalizer.detach

    def move_to_front(
        self, on_epoch_begin: Callable[[int], None], on_epoch_end: Callable[[dict[str, Any]], None]
    ) -> None:
        """Put a `FrontCallback` at the front of the list; call this in ``on_train_begin``.

        A ``BackupAndRestore`` right before callbacks of this package that have a state moves behind
        them, so that what it writes is never ahead of their state.
        """
        group = self.group
        if group is None:
            return
        self._original_order = [
            one for one in group.callbacks if not isinstance(one, FrontCallback)
        ]
        ordered = _with_backups_behind(self._original_order, _keeps_state, _is_ours)
        # A new list, since Keras is iterating over the old one.
        group.callbacks = [FrontCallback(on_epoch_begin, on_epoch_end), *ordered]

    def move_backups_behind_metrics(self, logs: dict[str, Any], validates: bool) -> None:
        """Move backups behind callbacks that wait for a metric; call this first at an epoch's end.

        The state of a callback of this package may depend on a metric that a user's callback has
        yet to write. A ``BackupAndRestore`` has to run after both: otherwise what it writes is
        ahead of that state.

        Args:
            logs: The logs of the epoch.
            validates: Whether Keras validates, perhaps not in every epoch.
        """
        group = self.group
        if group is None:
            return

        def waits(callback: Any) -> bool:
            monitor = getattr(callback, "monitor", None)
            known = monitor is None or monitor in logs or (validates and monitor.startswith("val_"))
            return _keeps_state(callback) and not known

        # In place, since Keras is iterating over the list.
        group.callbacks[1:] = _with_backups_behind(group.callbacks[1:], waits, lambda one: True)

    def guard_hooks(
        self, on_exception: Callable[[BaseException], None], check: Callable[[], None]
    ) -> None:
        """Watch the hooks of the list.

        Args:
            on_exception: Called with an exception that leaves a hook.
            check: Called after each hook inside an epoch; may raise.
        """
        self._on_exception, self._check = on_exception, check
        group = self.group
        if group is not None:
            _restore_hooks(group)  # an exception may have ended another fit with this list
            for name in _HOOKS:
                self._replace(name)

    def skip_unused_batch_hooks(self) -> None:
        """Skip the batch hooks that no callback has, once all callbacks have begun.

        To call a batch hook, Keras waits for the loss of each step, or uses a pool of threads.
        """
        group = self.group
        if type(group) is not keras.callbacks.CallbackList:
            return
        for name in _BATCH_HOOKS:
            if self.has_hook(name):
                self._replace(name)
            else:
                setattr(group, name, _skip)

    def has_hook(self, name: str) -> bool:
        """Return whether a callback of the list overrides a batch hook."""
        group = self.group
        names = name, _BATCH_HOOKS[name]
        callbacks = [] if group is None else group.callbacks
        return not all(_is_default(one, either) for one in callbacks for either in names)

    def call_at_next_batch(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the next batch of the fit begins, before any callback."""
        self._at_next_batch = action
        self._replace("on_train_batch_begin")

    def run_batch_actions(self) -> None:
        """Call the actions that wait for the start of a batch."""
        action, self._at_next_batch = self._at_next_batch, None
        if action is not None:
            action()
        if self.before_batch is not None:
            self.before_batch()

    def restore(self) -> None:
        """Restore the order of the callbacks and the list's own hooks."""
        group = self.group
        if group is None or self._original_order is None:
            return
        _restore_hooks(group)
        places = {id(one): place for place, one in enumerate(self._original_order)}
        here = [one for one in group.callbacks if not isinstance(one, FrontCallback)]
        # Those added during the fit stay behind the others.
        group.callbacks = sorted(here, key=lambda one: places.get(id(one), len(places)))

    def check_after_hook(self) -> None:
        """Check what a callback may have done to the model."""
        self._check()

    def leave_after_exception(self, error: BaseException) -> None:
        """Report an exception that leaves a hook."""
        self._on_exception(error)

    def _replace(self, name: str) -> None:
        """Replace a hook of the list by a `_Hook`, unless other code has replaced it."""
        group = self.group
        if group is None or not hasattr(group, name):
            return
        present = vars(group).get(name)
        if present is None or present is _skip or isinstance(present, _Hook):
            setattr(group, name, _Hook(self, name))


class _Hook:
    """Hook of a list of callbacks that reports exceptions and the start of batches."""

    def __init__(self, patch: CallbackListPatch, name: str) -> None:
        self.patch, self.name = patch, name

    def __call__(self, *arguments: Any, **options: Any) -> None:
        group = self.patch.group
        try:
            if self.name == "on_train_batch_begin":
                self.patch.run_batch_actions()
            getattr(type(group), self.name)(group, *arguments, **options)
            if self.name in _CONTINUING_HOOKS:
                self.patch.check_after_hook()
        except BaseException as error:
            self.patch.leave_after_exception(error)
            raise


def _skip(batch: int, logs: dict[str, Any] | None = None) -> None:
    """Do nothing, in place of a batch hook that no callback has."""


def _restore_hooks(group: Any) -> None:
    """Make a list call its own hooks again."""
    for name in _HOOKS:
        present = vars(group).get(name)
        if present is _skip or isinstance(present, _Hook):
            delattr(group, name)


def _with_backups_behind(
    callbacks: list[Any], waits: Callable[[Any], bool], passes: Callable[[Any], bool]
) -> list[Any]:
    """Return callbacks with each backup moved behind those that it has to wait for.

    Args:
        callbacks: The callbacks.
        waits: Returns whether a backup has to wait for a callback.
        passes: Returns whether a backup may move past a callback.
    """
    ordered = list(callbacks)
    for backup in filter(_is_backup, callbacks):
        start = ordered.index(backup) + 1
        behind = list(itertools.takewhile(passes, ordered[start:]))
        last = max((index for index, one in enumerate(behind) if waits(one)), default=-1)
        ordered.remove(backup)
        ordered.insert(start + last, backup)
    return ordered


def _keeps_state(callback: Any) -> bool:
    return _is_ours(callback) and hasattr(callback, "state_path")


def _is_ours(callback: Any) -> bool:
    return isinstance(callback, LegacyHooks)


def _is_default(callback: Any, hook: str) -> bool:
    return getattr(getattr(callback, hook, None), "_is_default", False)


def _is_backup(callback: Any) -> bool:
    return any(kind.__name__ == "BackupAndRestore" for kind in type(callback).__mro__)


def conflicting_callbacks(group: Any) -> list[Any]:
    """Return Keras's own callbacks that set the learning rate."""
    kinds = keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau
    return [one for one in getattr(group, "callbacks", []) if isinstance(one, kinds)]


def is_on_call_stack(group: Any) -> bool:
    """Return whether a method of ``group`` is running in this thread."""
    frames = traceback.walk_stack(sys._getframe(1))
    return group is not None and any(frame.f_locals.get("self") is group for frame, _ in frames)


def callback_list() -> Any:
    """Return the list of callbacks whose hook is running; None if a loop has no list."""
    for frame, _ in traceback.walk_stack(sys._getframe(1)):
        group: Any = frame.f_locals.get("self")
        if type(group).__name__ == "CallbackList" and isinstance(group.callbacks, list):
            return group
    return None
