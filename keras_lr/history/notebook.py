"""Small curves of a record for notebooks: the rate, and the loss below it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_lr.plotting.downsampling import moving_mean
from keras_lr.plotting.svg import ORANGE, Line, Panel, draw_panels, frame, stair_line


class StepRecord(Protocol):
    """The record to draw: arrays of equal length by name, one value per step."""

    def __len__(self) -> int: ...
    def __getitem__(self, name: str) -> NDArray[Any]: ...


def describe_record(record: StepRecord, owner: object) -> str | None:
    """Return HTML with the owner's repr and curves of the rate and the loss.

    Return None if there is no step.
    """
    return frame(repr(owner), _draw(record)) if len(record) else None


def _draw(record: StepRecord) -> str:
    step: NDArray[Any] = record["step"]
    unit = "steps"
    if np.any(np.diff(step) <= 0):
        step, unit = np.arange(len(step)), "steps of several fits"
    ends = float(step[0]), float(step[-1] + 1)
    rate = stair_line(step, record["learning_rate"], ends[1])
    panels = [Panel("learning rate", [rate], unit)]
    loss = np.asarray(record["loss"], float)
    if np.isfinite(loss).any():
        places, mean, _ = moving_mean(loss)
        lines = [
            Line(step, loss, ORANGE, faint=True),
            Line(step[places], mean, ORANGE),
        ]
        panels.append(Panel("loss", lines, unit, ends))
    return draw_panels(panels)
