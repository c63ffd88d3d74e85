"""`TrainFunctionPatch`: replaces a model's train function, and steps aside for other runs."""

from __future__ import annotations

import enum
from typing import Any, Protocol

from keras_lr._fit.engines.base import Engine
from keras_lr._keras.fits.callback_list import CallbackListPatch
from keras_lr._keras.fits.jax_state import sync_state
from keras_lr._keras.fits.model_functions import (
    Caller,
    MakerPatch,
    check_functions,
    find_caller,
    set_train_function,
)
from keras_lr._keras.state.snapshot import initial_metrics, metrics_of, reset_metrics


class PatchedFit(Protocol):
    """What the patch needs from the fit that it belongs to."""

    model: Any
    callbacks: CallbackListPatch
    open: bool
    ran: int
    in_fit: bool

    def is_alive(self) -> bool:
        """Return whether the fit still runs, as far as the call stack shows."""

    def check_optimizer(self) -> None:
        """Refuse to continue with a model that was compiled after the fit began."""

    def make_engine(self) -> Engine:
        """Return the engine that runs the executions."""

    def flush(self) -> None:
        """Pass the collected executions to the recorders."""

    def show_next_values(self) -> None:
        """Show callbacks that look at the optimizer the values of the next batch."""

    def collect_device_notes(self) -> None:
        """Read what the device has noted for the collected executions."""

    def end(self) -> None:
        """Leave the fit."""


class Request(enum.Enum):
    """What a call of ``make_train_function`` during a fit is for."""

    NEW_FIT = enum.auto()
    """Another fit begins: a callback's own, or the next one after an exception ended this one."""
    TRAINING_AFTER_THE_FIT = enum.auto()
    """An exception has ended this fit, and something else trains."""
    CHANGED_MODEL = enum.auto()
    """A callback has changed the model, for instance its layers, and wants a new function."""
    BATCH_OF_A_CALLBACK = enum.auto()
    """A callback trains on one batch, which is not part of the fit."""
    NEXT_BATCH = enum.auto()
    """A user's loop over batches trains on the next one."""


class TrainFunctionPatch:
    """Replaces a model's train function by that of an engine during a fit.

    Keras asks for the train function before it trains, and for the test function before it tests.
    The patch answers both requests, and so notices every other use of the model. Keras's running
    metrics of the epoch are put back before the next batch: otherwise they would be reset, and
    count the batches of others.
    """

    def __init__(self, fit: PatchedFit) -> None:
        """Check the model of a fit; `take_over` and `install` change it."""
        check_functions(fit.model)
        self.fit = fit
        self.model = fit.model
        self.makers = MakerPatch(fit.model)
        self.engine: Engine | None = None
        self.plain = self.installed = fit.model.train_function
        """The model's own train function, and the one that replaces it."""
        self.metrics: list[tuple[Any, Any]] | None = None
        """Keras's running metrics, with their values from before something else used them."""
        self.resets_metrics = False
        """Whether Keras's metrics are reset before each execution, whose logs then stand alone."""
        self._initial_metrics: list[tuple[Any, Any]] | None = None

    def take_over(self) -> None:
        """Replace the makers of the model's functions, if the patch has not done so yet."""
        if self.makers.installed:
            return

        def make_train_function(force: bool = False) -> Any:
            return self.train_function_for(self.request(find_caller(), force), force)

        def make_test_function(*arguments: Any, **options: Any) -> Any:
            if self.fit.callbacks.is_calling():
                self.save_metrics()
            return self.makers.make("make_test_function", *arguments, **options)

        self.makers.install(
            make_train_function=make_train_function, make_test_function=make_test_function
        )

    def request(self, caller: Caller, force: bool) -> Request:
        """Return what a call of ``make_train_function`` is for.

        Args:
            caller: The function that calls it.
            force: Whether the caller asks for a new function.
        """
        if caller.name == "fit":
            return Request.NEW_FIT
        if not self.fit.is_alive():
            return Request.TRAINING_AFTER_THE_FIT
        if force or self.model.train_function is None:
            return Request.CHANGED_MODEL
        if self.engine and self.fit.callbacks.is_calling():
            if caller.name == "train_on_batch":
                return Request.BATCH_OF_A_CALLBACK
            if caller.is_of_keras:
                return Request.NEW_FIT
        return Request.NEXT_BATCH

    def train_function_for(self, request: Request, force: bool = False) -> Any:
        """Return the train function for a request made while the patch is on the model."""
        match request:
            case Request.NEW_FIT | Request.TRAINING_AFTER_THE_FIT:
                self.suspend(self.fit.is_alive())
                return self.model.make_train_function(*((force,) if force else ()))
            case Request.CHANGED_MODEL:
                self.rebuild()
            case Request.BATCH_OF_A_CALLBACK:
                self.save_metrics()
                set_train_function(self.model, self.run_single_batch)
        return self.model.train_function

    def install(self) -> None:
        """Put the function of a new engine into the model, if there is none."""
        if self.engine is not None:
            return
        if self.model.train_function is None:
            self.make_train_function(force=True)
        self.plain = self.model.train_function
        self.engine = self.fit.make_engine()
        self.installed = self.engine.run
        self.engine.install()
        set_train_function(self.model, self.installed)

    def make_train_function(self, force: bool = False) -> Any:
        """Make the model's train function as Keras does."""
        return self.makers.make("make_train_function", force=force)

    def rebuild(self) -> None:
        """Make Keras build a new train function, and replace that one."""
        self.fit.check_optimizer()
        running = self.engine is not None
        self.fit.flush()
        if self.engine is not None:
            self.engine.restore()
        self.engine = None
        self.make_train_function(force=True)
        if running:
            self.install()

    def run_single_batch(self, *arguments: Any) -> Any:
        """Run one batch that is not part of the fit."""
        set_train_function(self.model, self.installed)
        return self.plain(*arguments)

    def suspend(self, alive: bool) -> None:
        """Leave the model to another training run: until the next batch or epoch, or for good."""
        if not alive:
            self.fit.end()
            return
        if self.fit.open:
            self.fit.flush()
            self.fit.callbacks.call_at_next_batch(self.resume)
            self.save_metrics()
        self.detach()

    def pause(self) -> None:
        """Leave the model after an exception, until the next batch or epoch if there is one.

        A loop without a list of callbacks does not report the start of a batch, but may continue.
        In such a loop the model keeps its function, as between two batches.
        """
        if self.fit.open and self.fit.callbacks.group is None:
            self.fit.flush()
            return
        if self.fit.open:
            # The loop may try the same batch again.
            self.fit.show_next_values()
            sync_state(self.model)
            self.fit.flush()
            self.fit.callbacks.call_at_next_batch(self.resume)
        self.detach()

    def resume(self) -> None:
        """Patch the model again after another training run."""
        self.take_over()
        self.install()

    def detach(self) -> None:
        """Leave the model as it was found."""
        if self.engine is not None:
            self.engine.restore()
        self.makers.restore()
        if self.engine is None:
            return
        self.fit.collect_device_notes()
        if self.model.train_function in (self.installed, self.run_single_batch):
            set_train_function(self.model, self.plain)
        # Releasing the engine frees the data that it holds.
        self.installed = self.plain
        self.engine = None

    def save_metrics(self) -> None:
        """Keep Keras's running metrics for the next batch while others use them."""
        if self.fit.open and self.fit.in_fit and self.metrics is None:
            self.metrics = metrics_of(self.model)

    def restore_metrics(self) -> None:
        """Make Keras's metrics continue from their saved values in the next step."""
        if self.metrics is None or self.engine is None:
            return
        saved, self.metrics = self.metrics, None
        self.engine.write_metrics(saved)
        # Keras creates the metrics given to `compile` in the first step of any kind.
        reset_metrics(self.model, {id(variable) for variable, _ in saved})

    def reset_metrics(self) -> None:
        """Make Keras's metrics start from zero in the next step."""
        if self.engine is None:
            return
        values = self._initial_metrics
        if values is None:
            values = initial_metrics(self.model)
        if self.fit.ran:  # Keras makes some metrics in its first step.
            self._initial_metrics = values
        self.engine.write_metrics(values)

    def restore_metrics_at_epoch_end(self) -> None:
        """Put Keras's metrics back to their values from before others used them."""
        saved, self.metrics = self.metrics, None
        for variable, value in saved or ():
            variable.assign(value)
