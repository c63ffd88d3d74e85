"""`attach`: gives a callback the session of its fit."""

from __future__ import annotations

import threading
from typing import Any

from keras_lr._fit.running import session_of
from keras_lr._fit.session import FitSession
from keras_lr._keras.fits.callback_list import callback_list
from keras_lr._keras.fits.fit_frame import is_fitted_by

_ATTACHING = threading.RLock()
"""Held while a callback joins a fit, so that fits in two threads do not both get it."""


def attach(model: Any, member: Any, params: dict[str, Any] | None = None) -> FitSession:
    """Return the session of the model's present fit, made by the first callback that asks.

    Args:
        model: The model that is fitted.
        member: The callback, which takes part in the fit until it leaves.
        params: Keras's parameters of the fit, such as its number of epochs and steps.

    Raises:
        ValueError: If this fit runs inside a fit of another model in which ``member`` takes part,
            or if ``member`` takes part in a fit that another thread runs.
    """
    with _ATTACHING:
        session = _attach(model, member, params)
        left = vars(member).get("_session")
        if left is not None and left is not session:
            left.flush()  # reports what a fit that an exception has ended left unreported
        vars(member)["_session"] = session
    return session


def _attach(model: Any, member: Any, params: dict[str, Any] | None) -> FitSession:
    group = callback_list()
    other = vars(member).get("_session")
    # A list that an exception has left may serve the next fit.
    nested = (
        other is not None and other.callbacks.group is not group and other.callbacks.is_calling()
    )
    own = threading.get_ident()
    elsewhere = (
        other is not None and other.thread != own and is_fitted_by(other.thread, other.model)
    )
    if elsewhere or (nested and other.model is not model):
        raise ValueError(
            f"A callback of a fit of the model {other.model.name!r}, which still runs, is in a fit "
            f"of {model.name!r} too. Give each fit its own callbacks: copy.deepcopy(callback)."
        )
    session = session_of(model)
    if session is not None and session.callbacks.group is not group:
        session.patch.suspend(session.is_alive())
        session = None
    if session is not None and any(one is member for one in session.members):
        begins = session.epoch < 0 and session.callbacks.is_calling()
        if not begins:
            # The member is left over from a fit that never ended.
            session.end()
            session = None
    if session is None:
        session = FitSession(model, getattr(group, "params", None) if params is None else params)
        session.attach()
    return session
