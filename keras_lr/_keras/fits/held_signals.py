"""`HeldSignals`: holds Ctrl-C back while the newest state of a model is nowhere stored.

Python calls the handler of a signal between any two instructions, so also right after a compiled
step returns, when an exception loses what it returned.

Relies on (Keras 3.0 and later): a step of a model is called ``train_step``, ``test_step`` or
``predict_step``. While one of these is on the call stack it is traced, or runs uncompiled, and has
used up nothing yet. Under another name Ctrl-C waits there until the step is compiled.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from types import FrameType
from typing import Any

_STEPS = {"train_step", "test_step", "predict_step"}


class HeldSignals:
    """Stands in front of the process's signal handlers, and makes signals wait while ``held``.

    This concerns handlers that Python calls, of any signal: that of a timer may raise an exception
    too. Python calls them in the main thread, so nothing is changed elsewhere. A signal that comes
    a second time is not made to wait.
    """

    def __init__(self) -> None:
        """Hold nothing; `install` changes the handlers."""
        self.held = False
        """Whether signals wait now; set it to True and call `release` in a ``finally``."""
        self.installed = False
        """Whether `install` was called, and neither `restore` nor a handler that raised."""
        self._waiting: list[int] = []
        self._found: dict[int, Any] = {}

    def install(self) -> None:
        """Stand in front of the handlers, if this is the main thread."""
        self.installed = True
        if threading.current_thread() is not threading.main_thread():
            return
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler) and handler != self._receive:
                # In this order: the signal may come as soon as its handler is set.
                self._found[number] = handler
                # Another interpreter of the same process has no signals.
                with contextlib.suppress(ValueError):
                    signal.signal(number, self._receive)

    def restore(self) -> None:
        """Put the handlers back, but for those that others have replaced meanwhile."""
        self.installed = False
        if threading.current_thread() is threading.main_thread():
            self.held = True
            try:
                for number, handler in self._found.items():
                    if signal.getsignal(number) == self._receive:
                        signal.signal(number, handler)
            finally:
                self.release()

    def release(self) -> None:
        """Make signals wait no longer, and call the handlers of those that do, which may raise."""
        self.held = False
        if self._waiting:
            self._deliver(sys._getframe(1))

    def _deliver(self, frame: FrameType) -> None:
        try:
            self._call_handler(self._waiting.pop(0), frame)
        finally:
            self.release()

    def _receive(self, number: int, frame: FrameType | None) -> Any:
        waits = number in self._waiting
        if self.held and not waits and not _in_step(frame):
            self._waiting.append(number)
            return None
        if waits:
            self._waiting.remove(number)
        return self._call_handler(number, frame)

    def _call_handler(self, number: int, frame: FrameType | None) -> Any:
        try:
            return self._found[number](number, frame)
        except BaseException:
            # It ends the fit, as a rule, and whoever called the fit gets the handlers back at once.
            self.restore()
            raise


def _in_step(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in _STEPS:
            return True
        frame = frame.f_back
    return False
