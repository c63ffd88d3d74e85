"""`PlateauCheckpoint`: the states of a plateau by epoch, and the weights of its best epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_lr._state import ArrayFiles, StateFile, load_arrays, save_arrays, unusable
from keras_lr.callbacks.plateau_rule import State

Weights = list[np.ndarray]


class PlateauCheckpoint:
    """Stores the state with which each epoch begins, and the weights of the best epoch.

    Another fit of the same callback continues from memory, a fit in a new process from the files.
    All epochs are kept, because a fit may resume from a model's checkpoint of any of them.
    """

    def __init__(self, file: StateFile | None, with_weights: bool) -> None:
        """Start empty.

        Args:
            file: File of the states; the weights are stored next to it. None keeps both in memory
                only.
            with_weights: Whether to store the weights of the best epoch.
        """
        self.file = file
        self.weights = ArrayFiles(file.path, "best") if file is not None and with_weights else None
        """Files of the weights; None if they are not stored."""
        self.states: dict[int, State] = {}
        """The states, by the number of the epoch that begins with each."""
        self.best_weights: dict[int | None, Weights] = {}
        """The weights of one epoch, by its number; the state shows if it is still the best."""
        self.start_fit()

    def check_weights(self) -> None:
        """Check before a fit that the weights can be written."""
        if self.weights is not None:
            self.weights.check()

    def start_fit(self) -> None:
        """Forget which states and weights are on disk."""
        self._written: dict[int, State] | None = None
        self._written_weights = (-1, b"")

    def find_state(self, epoch: int) -> State | None:
        """Return the state that a fit begins with at an epoch; None if it begins afresh.

        Raises:
            StateError: If the file of a resumed fit does not hold the epoch.
        """
        if epoch == 0:
            self.states, self.best_weights = {}, {}
        if self.file is not None and epoch not in self.states:
            # Read even at epoch 0: the file of another callback must not be replaced.
            known = self.file.load()
            if epoch and epoch not in known:
                raise self.file.lacks_epoch(epoch, known)
            self.states = {e: State.from_dict(known[e]) for e in known if 0 < e <= epoch}
        return self.states.get(epoch)

    def load_weights(self, state: State, model: Any) -> Weights | None:
        """Load the weights of a state's best epoch from disk; None if they are not stored there.

        Raises:
            StateError: If they are damaged, or do not fit the model.
        """
        if self.weights is None or state.best_epoch is None:
            return None
        path = self.weights.path(state.best_epoch)
        weights = list(load_arrays(path).values())
        expected = [tuple(one.shape) for one in model.weights]
        found = [one.shape for one in weights]
        if model.built and found != expected:
            raise unusable(path, f"its weights have the shapes {found}, those here {expected}")
        self.best_weights = {state.best_epoch: weights}
        return weights

    def write(self, epoch: int, read_weights: Callable[[], Weights] | None) -> None:
        """Write the states, if there is a file, and the weights of an epoch that is the best.

        Args:
            epoch: The present epoch.
            read_weights: Function that returns the present weights, if they are the new best.
        """
        if self.file is None:
            return
        if self.weights is not None and self.states[epoch + 1].best_epoch == epoch:
            weights = read_weights() if read_weights else self.best_weights.get(epoch, [])
            arrays = {str(i): weight for i, weight in enumerate(weights)}
            known = self._written_weights[1] if self._written_weights[0] == epoch else b""
            self._written_weights = epoch, save_arrays(self.weights.path(epoch), arrays, known)
        if self.states != self._written:
            self.file.save({e: state.to_dict() for e, state in self.states.items()})
            self._written = dict(self.states)
        if self.weights is not None:
            # Neither the present nor the next epoch needs the others when resumed.
            best = (self.states[e].best_epoch for e in (epoch, epoch + 1) if e in self.states)
            self.weights.delete_all_but({e for e in best if e is not None})
