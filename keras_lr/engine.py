"""How a fit runs with its values: set from the host, before each execution."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import numpy as np

from keras_lr.compiled import moved
from keras_lr.feed import samples_in
from keras_lr.hyperparameters import Hyperparameter, setter
from keras_lr.readings import glance

BLOCK = 1024
"""Rows of values handed to the step at once; a longer epoch refills the table."""


class Engine:
    """Runs the executions of a fit with its values; this one sets them from the host.

    A variable keeps what it is set to. A plain attribute is set for the time of the execution only.
    """

    def __init__(self, drive: Any) -> None:
        """Serve a `keras_lr.drive.Drive`."""
        self.drive = drive
        self.size = drive.steps_per_execution
        self.parameters = [channel.parameter for channel in drive.channels]
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
        drive = self.drive
        drive.go_on()
        with drive.lock:
            self.note(data)
            row = self.hold(self.size) if self.parameters else []
        self.assign(row)
        if self.numbers:
            with moved(self.numbers, row, self.parameters):
                logs = drive.plain(data)
        else:
            logs = drive.plain(data)
        drive.done(self.size, logs)
        return logs

    def note(self, data: Any) -> None:
        """Note what an execution finds: the samples so far, and the rate that nobody here moves."""
        drive = self.drive
        drive.loss.note(drive.batch, self.fetch)
        drive.loss.passed(samples_in(data))
        if drive.probe is not None:
            drive.probe.look()

    def fetch(self) -> Any:
        """Return the metric's count of samples, on a device where there is one."""
        return glance(self.drive.loss.variable)

    def settle(self, start: int, sizes: list[int]) -> None:
        """Give out what the compiled step has noted of executions from row ``start`` on."""

    def assign(self, row: list[float]) -> None:
        """Set the variables whose values have changed; all at an epoch's start, for others may."""
        begins = self.drive.batch == 0
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
        return self.drive.model.get_weights()

    def hold(self, count: int) -> list[float]:
        """Return the values of the present batch, which the whole execution will use."""
        drive = self.drive
        index = drive.row(count)
        if count > 1:
            drive.block[index : index + count] = drive.block[index]
            if not self.said:
                self.said = True
                warnings.warn(
                    "Hyperparameters are set from the host here: with "
                    f"steps_per_execution={count} they are held for {count} batches at a time.",
                    stacklevel=2,
                )
        return drive.block[index].tolist()

    def fall_back(self) -> None:
        """Make sure that setting values from the host has an effect.

        Raises:
            RuntimeError: If a number is baked into the compiled step and Keras let nothing else in.
        """
        baked = [parameter.name for parameter in self.numbers]
        if baked and not self.drive.model.run_eagerly:
            known = isinstance(self.drive.model, keras.Model)
            raise RuntimeError(
                f"This Keras ({keras.__version__ if known else 'legacy'}) compiles "
                f"{', '.join(baked)} into the training step in a way that keras_lr does not know, "
                "so that it cannot move. "
                "Compile the model with run_eagerly=True, or move the learning rate alone."
            )
