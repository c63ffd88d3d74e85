"""How a fit runs with its values: set from the host, before each execution."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import numpy as np

from keras_lr._keras.host_values import read_lazily, samples_in
from keras_lr._keras.hyperparameters import Hyperparameter, setter
from keras_lr._keras.train_step import hyperparameters_set

BLOCK = 1024
"""Rows of values handed to the step at once; a longer epoch refills the table."""


class Engine:
    """Runs the executions of a fit with its values; this one sets them from the host.

    A variable keeps what it is set to. A plain attribute is set for the time of the execution only.
    """

    def __init__(self, session: Any) -> None:
        """Serve a `keras_lr.drive.Drive`."""
        self.session = session
        self.size = session.steps_per_execution
        self.parameters = [track.parameter for track in session.tracks]
        self.numbers = [p for p in self.parameters if p.variable is None]
        self.setters = [
            (i, setter(parameter.variable))
            for i, parameter in enumerate(self.parameters)
            if parameter.variable is not None
        ]
        self.last: list[float] = [math.nan] * len(self.parameters)
        self.said = False

    def run(self, data: Any) -> Any:
        """Stand in for ``model.train_function``: one execution."""
        session = self.session
        session.before_execution()
        with session.lock:
            self.note(data)
            row = self.hold(self.size) if self.parameters else []
        self.assign(row)
        if self.numbers:
            with hyperparameters_set(self.numbers, row, self.parameters):
                logs = session.plain(data)
        else:
            logs = session.plain(data)
        session.after_execution(self.size, logs)
        return logs

    def note(self, data: Any) -> None:
        """Note what an execution finds: the samples so far, and the rate that nobody here moves."""
        session = self.session
        session.sample_counter.note_count(session.batch, self.fetch)
        session.sample_counter.count_batch(samples_in(data))
        if session.rate_reader is not None:
            session.rate_reader.look()

    def fetch(self) -> Any:
        """Return the metric's count of samples, on a device where there is one."""
        return read_lazily(self.session.sample_counter.variable)

    def collect_device_notes(self, start: int, sizes: list[int]) -> None:
        """Give out what the compiled step has noted of executions from row ``start`` on."""

    def assign(self, row: list[float]) -> None:
        """Set the variables whose values have changed; all at an epoch's start, for others may."""
        begins = self.session.batch == 0
        for i, set_to in self.setters:
            if begins or row[i] != self.last[i]:
                set_to(row[i])
        self.last = row

    def read(self, parameter: Hyperparameter) -> float:
        """Return a learning rate between two executions."""
        return parameter.read()

    def write(self, parameter: Hyperparameter, value: float) -> None:
        """Set a learning rate between two executions."""
        parameter.variable.assign(value)

    def put(self, values: list[tuple[Any, np.ndarray]]) -> None:
        """Set variables of metrics when an execution begins."""
        for variable, value in values:
            variable.assign(value)

    def catch_up(self) -> None:
        """Set at an epoch's end what was written after its last execution."""

    def weights(self) -> list[np.ndarray]:
        """Return the model's weights between two executions."""
        return self.session.model.get_weights()

    def hold(self, count: int) -> list[float]:
        """Return the values of the present batch, which the whole execution will use."""
        session = self.session
        index = session.row(count)
        if count > 1:
            session.block[index : index + count] = session.block[index]
            if not self.said:
                self.said = True
                warnings.warn(
                    "Hyperparameters are set from the host here: with "
                    f"steps_per_execution={count} they are held for {count} batches at a time.",
                    stacklevel=2,
                )
        return session.block[index].tolist()

    def fall_back(self) -> None:
        """Make sure that setting values from the host has an effect.

        Raises:
            RuntimeError: If a number is baked into the compiled step and Keras let nothing else in.
        """
        baked = [parameter.name for parameter in self.numbers]
        if baked and not self.session.model.run_eagerly:
            known = isinstance(self.session.model, keras.Model)
            raise RuntimeError(
                f"This Keras ({keras.__version__ if known else 'legacy'}) compiles "
                f"{', '.join(baked)} into the training step in a way that keras_lr does not know, "
                "so that it cannot move. "
                "Compile the model with run_eagerly=True, or move the learning rate alone."
            )
