"""`HeldSignals`: delays Ctrl-C while a model's newest state is not stored anywhere.

Python may call the handler of a signal between any two instructions. If it does so right after a
compiled step returns, and the handler raises, the state that the step returned is lost.

Relies on (Keras 3.0 and later): a step of a model is called ``train_step``, ``test_step`` or
``predict_step``. While one of these is on the call stack, it is being traced or runs uncompiled, so
no array has been used up yet. If a step has another name, Ctrl-C waits until it is compiled.
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
    """Wraps the process's signal handlers, and makes signals wait while ``held``.

    It wraps every handler written in Python, of any signal: that of a timer may raise an exception
    too. Python calls handlers in the main thread only, so in other threads it does nothing. A
    signal that arrives a second time does not wait.
    """

    def __init__(self) -> None:
        """Change nothing yet; `install` wraps the handlers."""
        self.held = False
        """Whether signals wait now; set it to True and call `release` in a ``finally``."""
        self.installed = False
        """Whether the handlers are wrapped: since `install`, until `restore` or an exception."""
        self._waiting: list[int] = []
        self._handlers: dict[int, Any] = {}

    def install(self) -> None:
        """Wrap the handlers, if this is the main thread."""
        self.installed = True
        if threading.current_thread() is not threading.main_thread():
            return
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler) and handler != self._receive:
                # In this order: the signal may come as soon as its handler is set.
                self._handlers[number] = handler
                # A subinterpreter cannot set signal handlers.
                with contextlib.suppress(ValueError):
                    signal.signal(number, self._receive)

    def restore(self) -> None:
        """Put the handlers back, except those that other code has replaced since."""
        self.installed = False
        if threading.current_thread() is threading.main_thread():
            self.held = True
            try:
                for number, handler in self._handlers.items():
                    if signal.getsignal(number) == self._receive:
                        signal.signal(number, handler)
            finally:
                self.release()

    def release(self) -> None:
        """Let signals through again, and call the handlers of those that waited; they may raise."""
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
            return self._handlers[number](number, frame)
        except BaseException:
            # The exception usually ends the fit; its caller gets the handlers back at once.
            self.restore()
            raise


def _in_step(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in _STEPS:
            return True
        frame = frame.f_back
    return False
