"""The fits that run now, one for each model."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_lr._fit.session import FitSession


class RunningFits:
    """The session of each model's fit, by the model's identity.

    A session holds its model, and is held by the callbacks that take part and by the function that
    it puts into the model. Here it is held weakly. So a model that is no longer used is freed
    together with a session that never ended.
    """

    def __init__(self) -> None:
        """Start without fits."""
        # Reentrant, because the garbage collector may end an abandoned session at any moment, even
        # while this lock is held.
        self._lock = threading.RLock()
        self._sessions: weakref.WeakValueDictionary[int, FitSession] = weakref.WeakValueDictionary()

    def session_of(self, model: Any) -> FitSession | None:
        """Return the session of a model's fit; None if no session has patched the model."""
        with self._lock:
            session = self._sessions.get(id(model))
        return session if session is not None and session.model is model else None

    def register(self, session: FitSession) -> None:
        """Register ``session`` as the one of its model."""
        with self._lock:
            self._sessions[id(session.model)] = session

    def remove(self, session: FitSession) -> None:
        """Forget ``session``, if it is still the one of its model."""
        with self._lock:
            if self._sessions.get(id(session.model)) is session:
                del self._sessions[id(session.model)]


RUNNING = RunningFits()


def session_of(model: Any) -> FitSession | None:
    """Return the session of the fit that runs on a model, if any."""
    return RUNNING.session_of(model)


def suspend_fit(model: Any) -> None:
    """Make the fit that runs on a model leave the model to another training run."""
    session = session_of(model)
    if session is not None:
        session.patch.suspend(session.is_alive())


def end_fit(model: Any) -> None:
    """End a model's fit for good, after an exception has ended it without a hook."""
    session = session_of(model)
    if session is not None:
        session.end()
