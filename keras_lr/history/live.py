"""Display of a record while a fit runs: values in the progress bar, curves in a notebook."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

from keras_lr._fit.running import session_of
from keras_lr._fit.session import FitSession
from keras_lr._hints import warn_user

SHARE = 0.04
"""Largest share of a fit's time that drawing may take, including the last drawing."""

SHORTEST_PAUSE = 1.0
"""Smallest number of seconds between two drawings, and before the first."""


class LiveCurves:
    """Curves of a record in the output of a notebook cell, updated now and then.

    A drawing waits for the device and takes time on the host. The next one is made when all
    drawings, including the last one at the end of the fit, take a small share of the time.
    """

    def __init__(
        self, render: Callable[[], str | None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Draw the HTML that ``render`` returns; nothing if it returns None."""
        self._render, self._clock = render, clock
        self._display: Any = None
        self._start, self._spent = clock(), 0.0
        self._due = self._start + SHORTEST_PAUSE
        if "ipykernel" not in sys.modules:
            warn_user("LRHistory.live() draws in notebooks, but this is not one: nothing is drawn.")
            self._due = float("inf")

    def draw_if_due(self, *execution: Any) -> None:
        """Draw, if the fit has run for long enough."""
        if self._clock() >= self._due:
            self.draw()

    def draw(self) -> None:
        """Draw now; nothing outside a notebook."""
        if self._due == float("inf"):
            return
        start = self._clock()
        html = self._render()
        if html is not None:
            self._show(html)
        end = self._clock()
        self._spent += end - start
        afterwards = self._spent + 2.0 * (end - start)
        self._due = max(end + SHORTEST_PAUSE, self._start + afterwards / SHARE)

    def _show(self, html: str) -> None:
        from IPython.display import HTML, display

        if self._display is None:
            self._display = display(HTML(html), display_id=True)
        else:
            self._display.update(HTML(html))


def values_in_use(session: FitSession) -> Callable[[int], dict[str, Any]]:
    """Return a function from a batch of the present epoch to the values that it uses, by name.

    A rate that no track moves may still be on the device; it is read when it is shown.

    The function may be called late, in another thread, and for a batch whose values are gone: then
    it returns the last known ones. After the fit it returns none.
    """
    present = weakref.ref(session)
    known: dict[str, Any] = {}

    def values(batch: int) -> dict[str, Any]:
        session = present()
        if session is None or session_of(session.model) is not session:
            return {}
        with session.lock:
            if session.table.start <= batch and session.table.covers(batch, 1):
                columns = session.table.columns(batch, 1)
                known.update((name, float(column[0])) for name, column in columns.items())
            for reader in session.rate_readers:
                if (rate := reader.rate_in_use()) is not None:
                    known[reader.name] = rate
        return known

    return values
