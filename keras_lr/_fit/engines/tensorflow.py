"""How values get into the training steps on TensorFlow.

``train_step`` is compiled with a gather from a table variable at its head. The compiled function is
kept on the model, so that later fits with other schedules compile nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lr._fit.engines.base import BLOCK, Engine
from keras_lr._keras.train_step import CompiledStep, compiled_step, hyperparameters_set


class TensorFlowEngine(Engine):
    """Reads tables inside the compiled step: exact whatever the number of steps per execution.

    The step also notes what nobody could read in each step without waiting: the samples so far, and
    the rate that nobody here moves.
    """

    def __init__(self, session: Any) -> None:
        """Compile the step, or use the one that is kept."""
        super().__init__(session)
        parameters, numbers, model, probe = (
            self.parameters,
            self.numbers,
            session.model,
            session.rate_reader,
        )
        self.rows = max(BLOCK, self.size)
        self.rate = None if probe is None or probe.schedule is not None else probe.variable
        noted = [
            variable
            for variable in (session.sample_counter.variable, self.rate)
            if variable is not None
        ]
        if model.distribute_strategy.num_replicas_in_sync > 1:
            noted = []
        self.noting = bool(noted)
        self.asking = self.noting and probe is not None and self.rate is None

        def build(step: CompiledStep, plain_step: Callable) -> Callable:
            import tensorflow as tf

            def column(dtype: str) -> Any:
                return keras.Variable(np.zeros(self.rows), dtype=dtype, trainable=False)

            with model.distribute_strategy.scope():
                step.tables = [column("float32") for _ in parameters]
                step.notes = [column(variable.dtype) for variable in noted]
                step.position = keras.Variable(
                    0, trainable=False, dtype="int", aggregation="only_first_replica", name="batch"
                )

            # Keras's own operations on variables would be several where one does.
            tables = [table._value for table in step.tables]
            notes = [(a.handle, b._value) for a, b in zip(step.notes, noted, strict=True)]
            advance = step.position._value.assign_add

            def driven_step(data: Any) -> Any:
                step.traced = True
                place = advance(1)
                values = [tf.gather(table, place) for table in tables]
                for note, variable in notes:
                    tf.raw_ops.ResourceScatterUpdate(resource=note, indices=place, updates=variable)
                for parameter, value in zip(parameters, values, strict=True):
                    if parameter.variable is not None:
                        parameter.variable.assign(value)
                with hyperparameters_set(numbers, values, parameters):
                    return plain_step(data)

            return driven_step

        self.step = None
        if parameters or noted:
            key = *(parameter.key for parameter in parameters), *map(id, noted)
            self.step = compiled_step(session, key, build)
        self.loaded: Any = None
        if self.step is None:
            self.fall_back()

    def run(self, data: Any) -> Any:
        step, session = self.step, self.session
        if step is None:
            return super().run(data)
        session.before_execution()
        with session.lock:
            if not self.noting:
                self.note(data)
            index = session.row(self.size)
        if session.block is not self.loaded:
            self.load(index)
        if not step.traced:
            return self.first(step, data)
        if self.asking:
            session.rate_reader.look()
        logs = step.function(data)
        session.after_execution(self.size, logs)
        return logs

    def load(self, index: int) -> None:
        """Hand the block to the compiled step."""
        step, block = self.step, self.session.block
        assert step is not None
        for i, table in enumerate(step.tables):
            rows = np.zeros(self.rows, np.float32)
            rows[: len(block)] = block[:, i]
            table.assign(rows)
        step.position.assign(index - 1)
        self.loaded = block

    def first(self, step: CompiledStep, data: Any) -> Any:
        """Run the execution that traces; go on from the host if Keras left our step out of it."""
        session = self.session
        if self.parameters:
            self.assign(session.block[session.row(self.size)].tolist())
        logs = step.function(data)
        if not step.traced:
            vars(session.model)["_keras_lr_steps"].clear()
            self.step = None
            self.fall_back()
            if self.noting:
                self.note(data)
        elif self.asking:
            session.rate_reader.look()
        session.after_execution(self.size, logs)
        return logs

    def collect_device_notes(self, start: int, sizes: list[int]) -> None:
        if self.step is None or not self.noting:
            return
        session = self.session
        before = np.cumsum(sizes) - sizes
        notes = [np.asarray(note.value)[start + before] for note in self.step.notes]
        if self.rate is not None:
            session.rate_reader.seen += notes.pop().tolist()
        counts = notes.pop() if notes else np.zeros(len(sizes))
        session.sample_counter.add_device_counts(session.block_start + start + before, counts)
