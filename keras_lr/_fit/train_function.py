"""Standing in for a model's train function, and making way for whatever else trains the model."""

from __future__ import annotations

import functools
import sys
from typing import Any

from keras_lr._fit.engines.base import Engine
from keras_lr._keras.callback_list import (
    call_at_next_batch,
    callback_list,
    is_on_call_stack,
    move_to_front,
)
from keras_lr._keras.fit_frame import frame_of_fit
from keras_lr._keras.snapshot import metrics_of


class TrainFunctionPatch:
    """What has its own function in the place of a model's train function during a fit.

    Keras asks for the train function before it trains, and for the test function before it tests.
    So whatever begins to use the model is noticed: a new fit, after one that an exception ended, or
    a callback's own training or evaluation. Keras's running metrics of the epoch are put back
    before the next batch: else they would count what others did, and begin anew.
    """

    def __init__(self, model: Any) -> None:
        """Know the fit that this is called from; `take` takes the place."""
        self.model = model
        self.optimizer = getattr(model, "optimizer", None)
        self.plain = self.installed = model.train_function
        makers = "make_train_function", "make_test_function"
        self.own_makers = {name: vars(model).get(name) for name in makers}
        self.engine: Engine | None = None
        self.open = False
        """Whether an epoch has begun and not ended."""
        self.group = callback_list()
        self.in_fit = frame_of_fit(model) is not None
        """Whether Keras's own fit runs it, and not a loop of one's own over batches."""
        self.metrics: list[tuple[Any, Any]] | None = None
        """Keras's running metrics, with their values from before something else used them."""
        self.step_back = move_to_front(self.group, self.on_epoch_end_first)

    def install(self) -> None:
        """Put the function of an engine into the model, if there is none."""
        raise NotImplementedError

    def check(self) -> None:
        """See whether the model is as it was when the fit began."""
        raise NotImplementedError

    def flush(self) -> None:
        """Hand over what has piled up."""
        raise NotImplementedError

    def collect_device_notes(self) -> None:
        """Take what the engine knows of it."""
        raise NotImplementedError

    def on_epoch_end_first(self, logs: dict[str, Any]) -> None:
        """Take an epoch's end, ahead of the other callbacks."""
        raise NotImplementedError

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Let Keras make a function of the model as it would without a drive."""
        own = self.own_makers[name] or functools.partial(
            getattr(type(self.model), name), self.model
        )
        return own(*arguments, **options)

    def take(self) -> None:
        """Become the drive of the model, if it is not."""
        model = self.model
        if vars(model).get("_keras_lr_session") is self:
            return
        object.__setattr__(model, "_keras_lr_session", self)

        def make_train_function(force: bool = False) -> Any:
            return self.train_function_for(force, sys._getframe(1).f_code.co_name)

        def make_test_function(*arguments: Any, **options: Any) -> Any:
            if is_on_call_stack(self.group):
                self.keep_metrics()
            return self.make("make_test_function", *arguments, **options)

        for function in (make_train_function, make_test_function):
            object.__setattr__(model, function.__name__, function)

    def train_function_for(self, force: bool, caller: str) -> Any:
        """Give the train function to what asks for it while this drive has the model.

        That may be something new, where the fit was ended by an exception or a callback begins a
        training of its own; one batch on its own; or a callback that changed the model's layers.
        """
        model, within = self.model, is_on_call_stack(self.group)
        alive = within or not self.in_fit
        if caller == "fit" or not alive:
            self.suspend(alive)
            return model.make_train_function(force)
        if force or model.train_function is None:
            self.rebuild()
        elif caller == "train_on_batch" and within and self.engine is not None:
            self.keep_metrics()
            model.train_function = self.run_single_batch
        return model.train_function

    def suspend(self, alive: bool) -> None:
        """Leave the model to another training: up to the next batch or epoch, or for good."""
        if not alive:
            self.end()
            return
        if self.open:
            self.flush()
            call_at_next_batch(self.group, self.resume)
            self.keep_metrics()
        self.detach()

    def keep_metrics(self) -> None:
        """Keep Keras's running metrics for the next batch while others use them."""
        if self.open and self.in_fit and self.metrics is None:
            self.metrics = metrics_of(self.model)

    def resume(self) -> None:
        """Go on after another training."""
        self.take()
        self.install()

    def run_single_batch(self, *arguments: Any) -> Any:
        """Run one batch that is none of the fit's."""
        self.model.train_function = self.installed
        return self.plain(*arguments)

    def rebuild(self) -> None:
        """Let Keras make the train function anew, and drive that."""
        self.check()
        running = self.engine is not None
        self.flush()
        self.engine = None
        self.make("make_train_function", force=True)
        if running:
            self.install()

    def end(self) -> None:
        """Leave the fit: the model and the list of callbacks as they were found."""
        self.detach()
        self.step_back()

    def detach(self) -> None:
        """Leave the model as it was found."""
        model, engine = self.model, self.engine
        if vars(model).get("_keras_lr_session") is self:
            object.__delattr__(model, "_keras_lr_session")
            for name, own in self.own_makers.items():
                vars(model).pop(name)
                if own is not None:
                    object.__setattr__(model, name, own)
        if engine is None:
            return
        self.collect_device_notes()
        if model.train_function in (self.installed, self.run_single_batch):
            model.train_function = self.plain
        # What it holds of the data goes with the engine.
        self.installed = self.plain
        self.engine = None


def make_way(model: Any) -> None:
    """Have what stands in for the train function of a model leave it to another training."""
    occupant = vars(model).get("_keras_lr_session")
    if occupant is not None:
        occupant.suspend(is_on_call_stack(occupant.group) or not occupant.in_fit)
