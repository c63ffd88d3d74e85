"""`TrialRunner`: trains all trials that share a model, which is compiled once."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from numpy.typing import NDArray

from keras_lr._fit.running import end_fit
from keras_lr._keras.fits.fit_data import are_arrays, build_model
from keras_lr._keras.fits.fit_frame import forget_initial_epoch
from keras_lr._keras.metrics import higher_is_better
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, find_hyperparameter
from keras_lr._keras.rates.optimizers import optimizer_of
from keras_lr._keras.state.final_values import weights_kept
from keras_lr._keras.state.object_walk import callables_in
from keras_lr._keras.state.random_kernels import draws_from_kernels
from keras_lr._keras.state.random_state import capture_random_states, is_of_keras, set_seed
from keras_lr._keras.state.snapshot import (
    ModelState,
    Snapshot,
    build_optimizer,
    values_of,
)
from keras_lr._keras.whole_epochs.data import NeedsFit
from keras_lr.callbacks import ParamScheduler
from keras_lr.schedules import Constant
from keras_lr.schedules.base import Schedule
from keras_lr.search.trials.continued import make_callbacks
from keras_lr.search.trials.description import Group, Outcome, Stretch, Trial
from keras_lr.search.trials.problem import BuildFailed, Problem
from keras_lr.search.trials.watch import TrialWatch
from keras_lr.search.trials.whole_epochs import WholeEpochTrials


class InitialState(NamedTuple):
    """The state in which all trials of a seed begin."""

    values: list[NDArray]
    """The values of a new model's variables, in the order of a snapshot."""
    restore_random_states: Callable[[], None]
    """Function that restores the random states as ``build`` left them."""


class FirstBatch(keras.callbacks.Callback):
    """Callback that ends a fit after its first batch."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.stop_training = True


class TrialRunner:
    """Trains the trials of one group, on one model that is compiled once.

    Each trial begins with the values of a new model of its seed. So, whatever was trained before,
    its result equals bit for bit that of a program that calls
    ``keras.utils.set_random_seed(seed)``, builds a model with this rate and fits it.
    """

    def __init__(self, problem: Problem, group: Group) -> None:
        """Build the model.

        Raises:
            BuildFailed: If the user's ``build`` raises.
            TypeError: If it does not return a model.
            ValueError: If it returns a model that cannot be swept.
        """
        self.problem = problem
        self.group = group
        self.model = self._build(0)
        optimizer = optimizer_of(self.model)
        self.rate = find_hyperparameter(optimizer, LEARNING_RATE)
        if problem.fit.get("validation_data") is not None:
            # The snapshot keeps this function; otherwise it would be compiled again for each trial.
            self.model.make_test_function()
        self.snapshot = Snapshot(self.model)
        data = [problem.fit.get(name) for name in ("x", "validation_data")]
        loaders = [one for one in data if one is not None and not are_arrays(one)]
        self.keep_kernels = all(map(is_of_keras, [*callables_in(self.model), *loaders]))
        self._draws: bool | None = None
        self._initial_states: dict[int, InitialState] = {}
        self._initial_state(0)
        self._logged: tuple[str, ...] = ()
        self._whole_epochs: WholeEpochTrials | None = None
        self._reason_for_fit = ""

    def _build(self, seed: int) -> Any:
        model = self.problem.build(self.group, seed)
        build_model(model, self.problem.fit["x"])
        build_optimizer(model)
        return model

    def describe(self) -> str:
        """Return a description of the model: its layers, variables, loss and metrics.

        The numbers that Keras appends to names are removed: they differ from model to model.
        """
        parts = [[v.path, list(v.shape), str(v.dtype)] for v in self.model.variables]
        compiled = self.model.get_compile_config() or {}
        compiled.pop("optimizer", None)
        layers = [type(layer).__name__ for layer in self.model.layers]
        text = json.dumps([layers, parts, compiled], default=repr, sort_keys=True)
        return re.sub(r"_\d+\b", "", text)

    def warm_up(self) -> tuple[str, ...]:
        """Compile all that a trial runs, and return the names that an epoch logs.

        So the time of the first trial is training time alone, as that of the others.
        """
        if self._logged:
            return self._logged
        restore_random_states = capture_random_states()
        try:
            self._logged = self._warm_up_whole_epochs() or self._warm_up_fit()
        finally:
            restore_random_states()
        return self._logged

    def _warm_up_whole_epochs(self) -> tuple[str, ...]:
        """Compile the training by whole epochs; return no names if ``fit`` has to train."""
        try:
            trials = WholeEpochTrials(self.problem, self.model, self.rate)
            logged = trials.rehearse()
        except NeedsFit as reason:
            self._reason_for_fit = str(reason)
        except Exception as error:  # fit may do better, and if not, its error is the known one
            self._reason_for_fit = f"a whole epoch raised {type(error).__name__}"
        else:
            self._whole_epochs = trials
            return logged
        self.snapshot.restore()
        return ()

    def _warm_up_fit(self) -> tuple[str, ...]:
        short = self.problem.short_fit()
        callbacks = [*self._constant_driver()]
        if short is None:
            callbacks.append(FirstBatch())
        fit = dict(self.problem.fit) if short is None else short
        try:
            history = self.model.fit(**fit, epochs=1, verbose=0, callbacks=callbacks)
        finally:
            end_fit(self.model)
        return tuple(history.history)

    def _check_logged(self) -> None:
        """Refuse a model that does not log the values by which trials are compared."""
        logged = self.warm_up()
        missing = [name for name in self.problem.compared.values() if name not in logged]
        if missing:
            raise ValueError(f"an epoch logs no {missing[0]!r}; logged are {', '.join(logged)}")

    def higher_is_better(self) -> bool:
        """Return whether more of the monitored value is better; call this after `warm_up`.

        Return False if an epoch does not log it, which the search refuses.
        """
        problem = self.problem
        if problem.monitor not in self._logged:
            return False
        return higher_is_better(problem.search.name, self.model, problem.monitor, problem.mode)

    def _constant_driver(self) -> list[Any]:
        """Return a callback that drives what the schedule drives, but with constant values.

        It compiles the step that the schedule needs.
        """
        schedule = self.problem.schedule(self.rate.read()) if self.problem.schedule else None
        optimizer = optimizer_of(self.model)
        if isinstance(schedule, Schedule):
            moved = schedule.hyperparameter_schedules(optimizer)
        elif isinstance(schedule, ParamScheduler):
            moved = schedule.schedules
        else:
            return []
        standing = {name: Constant(find_hyperparameter(optimizer, name).read()) for name in moved}
        return [ParamScheduler(**standing)]

    def prepare(self, seed: int) -> None:
        """Build the model of a seed before any trial is trained.

        Setting the seed for ``build`` makes TensorFlow drop all kernels. Those of a step are made
        again in the next step, which takes as long as a short trial. `run` reports any error.
        """
        with contextlib.suppress(Exception):
            self._initial_state(seed)

    def run(self, stretch: Stretch) -> Outcome:
        """Train a stretch, after those before it if its state is not available."""
        state = stretch.state
        if isinstance(state, ModelState):
            state = self.adopt(state)
        if state is None and stretch.start:
            before = self.run(stretch.before())
            if before.status != "trained":
                return before
            state = before.state
        watch = TrialWatch(stretch.stop, self.problem.target)
        try:
            self._check_logged()
            self._train_stretch(stretch, state, watch)
        except BuildFailed as error:
            watch.status, watch.reason = "failed", str(error)
        except Exception as error:
            watch.status = "failed"
            watch.reason = f"{type(error).__name__}: {error}"
        if self._draws is None:
            self._draws = draws_from_kernels(self.model.train_function)
        return self._outcome(stretch, watch)

    def adopt(self, state: ModelState) -> Snapshot | None:
        """Return a state of another model of the group as one of this runner's model.

        Returns:
            The state; None if the models differ in what they hold.
        """
        self.warm_up()  # the model then holds all that it holds between two stretches
        snapshot = Snapshot(self.model)
        try:
            # Arrays in Ray's store are read-only. JAX would use their memory as its own.
            snapshot.adopt(ModelState([value.copy() for value in state.values], *state[1:]))
        except ValueError:
            return None
        return snapshot

    def _train_stretch(self, stretch: Stretch, state: Snapshot | None, watch: TrialWatch) -> None:
        """Train a stretch by whole epochs, or else by ``fit``."""
        values = self._values_of_steps(stretch.trial)
        trials = self._whole_epochs
        self._go_to_start(stretch, state, unbuild=trials is None)
        with weights_kept(self.model, lambda: not self._ends(stretch, watch)):
            if trials is None:
                self._fit(stretch, watch)
            else:
                reads_ahead = state is None and self.snapshot.has_fit_read_ahead
                trials.train_stretch(stretch, watch, values, reads_ahead)

    def _ends(self, stretch: Stretch, watch: TrialWatch) -> bool:
        """Return whether a trial has ended with a stretch, so that none continues it."""
        return watch.status != "trained" or stretch.stop >= self.problem.epochs

    def _values_of_steps(self, trial: Trial) -> NDArray | None:
        """Return the values of each step, if a training run by whole epochs needs them.

        After the first schedule that needs ``fit``, all trials of this model are trained by it.
        """
        if self._whole_epochs is None:
            return None
        try:
            return self._whole_epochs.values_of(trial)
        except NeedsFit as reason:
            self._whole_epochs, self._reason_for_fit = None, str(reason)
            return None

    def _go_to_start(self, stretch: Stretch, state: Snapshot | None, unbuild: bool = True) -> None:
        """Restore the model and all random states to the start of a stretch.

        Args:
            stretch: The stretch.
            state: The state at the end of the stretch before; None for that of a new model.
            unbuild: See `Snapshot.restore`.
        """
        if self._draws:
            # The kernels of such a function count their draws, and nothing can reset the count.
            self.snapshot.renew_functions()
        seed = stretch.trial.seed
        if state is not None:
            if not self.keep_kernels:
                set_seed(seed, keep_kernels=False)
            state.restore()
            return
        beginning = self._initial_state(seed)
        if not self.keep_kernels:
            set_seed(seed, keep_kernels=False)
        self.snapshot.restore(beginning.values, unbuild)
        beginning.restore_random_states()
        self.rate.variable.assign(stretch.trial.learning_rate)

    def _initial_state(self, seed: int) -> InitialState:
        """Return the initial state of a seed's trials, from a new model at the first call."""
        if seed not in self._initial_states:
            model = self._build(seed)
            restore = capture_random_states()
            if model is self.model:
                raise ValueError(
                    f"{self.problem.search.name}.run: build (for {self.group}) must return a new "
                    f"model at each call. Received: the same model {model.name!r} twice"
                )
            values = values_of(model)
            if [value.shape for value in values] != self.snapshot.shapes:
                raise ValueError(
                    f"{self.problem.search.name}.run: build (for {self.group}) must return a model "
                    "of the same shape at each call. Received: models whose variables differ in "
                    "shape"
                )
            self._initial_states[seed] = InitialState(values, restore)
        return self._initial_states[seed]

    def _fit(self, stretch: Stretch, watch: TrialWatch) -> None:
        problem, trial = self.problem, stretch.trial
        callbacks = [*make_callbacks(problem, trial), watch]
        forget_initial_epoch(self.model)
        try:
            self.model.fit(
                **problem.fit,
                epochs=problem.epochs,
                initial_epoch=stretch.start,
                verbose=0,
                callbacks=callbacks,
            )
        finally:
            end_fit(self.model)

    def _outcome(self, stretch: Stretch, watch: TrialWatch) -> Outcome:
        trained = watch.status == "trained"
        # On JAX an evaluation deletes what the weights share with the averages of an optimizer.
        state = Snapshot(self.model) if trained and stretch.keep else None
        tested = watch.status in ("trained", "reached", "stopped") and self._ends(stretch, watch)
        test = self._test() if tested and self.problem.test_data is not None else {}
        return Outcome(
            stretch.trial,
            stretch.stops,
            watch.status,
            watch.reason,
            watch.epochs,
            watch.steps,
            watch.seconds,
            watch.logs,
            watch.marks,
            test,
            self._whole_epochs.route if self._whole_epochs else "fit",
            self._reason_for_fit,
            state=state,
        )

    def _test(self) -> dict[str, float]:
        data = self.problem.test_data
        assert data is not None
        size = self.problem.evaluation_batch_size
        x, *rest = data
        found = self.model.evaluate(x, *rest[:1], batch_size=size, verbose=0, return_dict=True)
        return {name: float(value) for name, value in found.items()}
