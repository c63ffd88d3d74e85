"""The rates of a Keras ``LearningRateSchedule``, evaluated at many steps at once.

Relies on public names only: a schedule is called with a step, and `keras.ops.vectorized_map` calls
it with all of them. Whether that gives the schedule's own values is checked at both ends.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lr._keras.host_values import to_numpy


def schedule_values(schedule: Any, steps: np.ndarray) -> np.ndarray:
    """Return the rates of a Keras ``LearningRateSchedule`` at ``steps`` as float64.

    All steps are evaluated at once if the operations of the schedule allow it, otherwise one by
    one. An exception of the schedule is passed on unchanged.
    """
    if hasattr(schedule, "rates"):
        return np.asarray(schedule.rates(steps), np.float64)
    if len(steps) > 2:
        try:
            at_once = to_numpy(
                keras.ops.vectorized_map(schedule, keras.ops.convert_to_tensor(steps))
            )
            ends = [float(to_numpy(schedule(step))) for step in (steps[0], steps[-1])]
            if at_once.shape == steps.shape and np.allclose(
                at_once[[0, -1]], ends, rtol=1e-5, atol=0
            ):
                return at_once.astype(np.float64)
        except Exception:
            return _values_one_by_one(schedule, steps)
    return _values_one_by_one(schedule, steps)


def _values_one_by_one(schedule: Any, steps: np.ndarray) -> np.ndarray:
    return np.array([float(to_numpy(schedule(step))) for step in steps], np.float64)
