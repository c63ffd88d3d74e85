"""`RuleCheckpoint`: the state of a rule by epoch, in memory and in files."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_lr._keras.gradients.rule_updates import RuleUpdates
from keras_lr._state import ArrayFiles, StateFile, load_arrays, save_arrays, unusable

Arrays = dict[str, np.ndarray]

KEPT_CHECKPOINTS = 2
"""Number of epochs whose states are on disk: a model's checkpoint may be one epoch old."""


class RuleCheckpoint:
    """Stores the states with which epochs begin.

    Another fit of the same callback continues from the variables of the last fit, and a fit in a
    new process from the files. A state is as large as the weights, so only those of the last two
    epochs are on disk. The file itself names the epochs; the arrays are in files next to it.
    """

    def __init__(self, file: StateFile | None) -> None:
        """Start empty.

        Args:
            file: File that names the epochs; None keeps states in memory only.
        """
        self.file = file
        self.arrays = None if file is None else ArrayFiles(file.path, "epoch")
        """The files next to it."""
        self.loaded: dict[int, Arrays] = {}
        """States that were passed in or unpickled, by the epoch that begins with them."""
        self._left: tuple[int, RuleUpdates, int, int] | None = None
        """The epoch after the last one; the variables with its state; their fit and batches."""
        self._written: dict[int, dict[str, Any]] = {}
        self._last: tuple[int, int] | None = None

    def check_arrays(self) -> None:
        """Check before a fit that the arrays can be written."""
        if self.arrays is not None:
            self.arrays.check()

    def start_fit(self) -> None:
        """Forget what this fit has written."""
        self._written, self._last = {}, None

    def leave_at(self, epoch: int, updates: RuleUpdates) -> None:
        """Remember that the variables hold the state that an epoch begins with."""
        self._left = epoch, updates, updates.fits, updates.notes.noted()

    def is_left_at(self, epoch: int, updates: RuleUpdates) -> bool:
        """Return whether the variables still hold the state that an epoch begins with."""
        return self._left == (epoch, updates, updates.fits, updates.notes.noted())

    def read_left(self) -> dict[int, Arrays]:
        """Return the state that the variables hold, or what was loaded, by epoch."""
        if self._left is None or not self.is_left_at(*self._left[:2]):
            return self.loaded
        return {self._left[0]: self._left[1].read_state()}

    def find_state(self, epoch: int, updates: RuleUpdates) -> Arrays | None:
        """Return the stored state that a fit begins with at an epoch; None if there is none.

        Raises:
            StateError: If the file of a resumed fit lacks the epoch, or holds it of another model.
        """
        loaded, self.loaded = self.loaded, {}
        if self.file is not None:
            # Read even at epoch 0: the file of another callback must not be replaced.
            known = self.file.load()
            self._written = {e: known[e] for e in known if 0 < e <= epoch}
        if epoch == 0:
            return None
        if epoch in loaded:
            return loaded[epoch]
        if self.file is None or self.arrays is None or self.is_left_at(epoch, updates):
            return None
        if epoch not in known:
            raise self.file.lacks_epoch(epoch, known)
        path = self.arrays.path(epoch)
        state = load_arrays(path)
        if misfit := updates.describe_misfit(state):
            raise unusable(path, f"it is of another model: {misfit}")
        return state

    def write(self, epoch: int, updates: RuleUpdates) -> None:
        """Write the state that an epoch begins with, if there is a file that lacks it."""
        if self.file is None or self.arrays is None or self._last == (epoch, updates.notes.noted()):
            return
        self._last = epoch, updates.notes.noted()
        path = self.arrays.path(epoch)
        save_arrays(path, updates.read_state())
        self._written[epoch] = {"arrays": path.name}
        self._written = {e: self._written[e] for e in sorted(self._written)[-KEPT_CHECKPOINTS:]}
        self.file.save(self._written)
        self.arrays.delete_all_but(self._written)
