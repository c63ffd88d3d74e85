"""`attach`: how a callback gets the session of the fit that it takes part in."""

from __future__ import annotations

from typing import Any

from keras_lr._fit.running import session_of
from keras_lr._fit.session import FitSession
from keras_lr._keras.fits.callback_list import callback_list


def attach(model: Any, member: Any, params: dict[str, Any] | None = None) -> FitSession:
    """Return the session of the model's present fit, made by the first callback that asks.

    Args:
        model: The model that is fitted.
        member: What takes part in the fit until it leaves.
        params: What Keras tells the callbacks of a fit, its size among it.

    Raises:
        ValueError: If ``member`` takes part in a fit of another model that this one runs inside.
    """
    group = callback_list()
    other = vars(member).get("_session")
    # A list that an exception has left may serve the next fit.
    nested = (
        other is not None and other.callbacks.group is not group and other.callbacks.is_calling()
    )
    if nested and other.model is not model:
        raise ValueError(
            f"A callback of a fit of the model {other.model.name!r}, which still runs, is in a fit "
            f"of {model.name!r} too. Give each fit callbacks of its own: copy.deepcopy(callback)."
        )
    session = session_of(model)
    if session is not None and session.callbacks.group is not group:
        session.patch.suspend(session.is_alive())
        session = None
    if session is not None and any(one is member for one in session.members):
        begins = session.epoch < 0 and session.callbacks.is_calling()
        if not begins:
            # The member is here from a fit that never came to its end.
            session.end()
            session = None
    if session is None:
        session = FitSession(model, getattr(group, "params", None) if params is None else params)
        session.attach()
    return session
