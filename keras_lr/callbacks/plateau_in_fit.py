"""`PlateauRates` and `PlateauStart`: the rates that a plateau changes, and when it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from keras_lr._fields.timeline import Timeline
from keras_lr._fit.session import FitSession
from keras_lr._fit.tracks import HyperparameterTrack
from keras_lr._hints import warn_user
from keras_lr._keras.rates.hyperparameters import LEARNING_RATE, Hyperparameter, find_hyperparameter
from keras_lr.callbacks.plateau_rule import State


class PlateauRates:
    """The rates of optimizers in a fit, some of which are driven by a schedule."""

    def __init__(self, session: FitSession, optimizers: Iterable[Any]) -> None:
        """Find the rates; the schedules that drive them may still join the fit."""
        self.session = session
        self.parameters: list[Hyperparameter] = [
            find_hyperparameter(optimizer, LEARNING_RATE) for optimizer in optimizers
        ]

    def tracks(self) -> list[HyperparameterTrack | None]:
        """Return for each rate the track that drives it; None if no schedule does."""
        tracks = {track.parameter.key: track for track in self.session.tracks}
        return [tracks.get(rate.key) for rate in self.parameters]

    def read_rates(self) -> tuple[float, ...]:
        """Return the rates at the start of the fit."""
        return tuple(rate.read() for rate in self.parameters)

    def scheduled(self) -> list[float | None]:
        """Return for each rate its present value if a schedule drives it, else None."""
        return [
            None if track is None else self.session.last_value(track) for track in self.tracks()
        ]

    def with_present(self, state: State) -> State:
        """Return a state with the present rates, which another callback may have set."""
        if not state.rates:
            return state
        found = zip(self.parameters, self.tracks(), state.rates, strict=True)
        return state.replace(
            rates=tuple(
                known if track else self.session.read_rate(rate) for rate, track, known in found
            )
        )

    def write_state(self, state: State) -> None:
        """Put the rates and scales of a state into effect."""
        tracks = self.tracks()
        for rate, track, value in zip(self.parameters, tracks, state.rates, strict=False):
            if track is None:
                self.session.write_rate(rate, value)
        if any(tracks):
            self.session.invalidate_values()

    def describe(self, state: State) -> str:
        """Describe the rates of a state; for schedules with the same scale, only the scale."""
        tracks = self.tracks()
        shown = [
            f"{state.scale_of(i):g} times the schedule" if tracks[i] else str(rate)
            for i, rate in enumerate(state.rates)
        ]
        return ", ".join(dict.fromkeys(shown) if all(tracks) else shown)

    def add_to_logs(self, logs: dict[str, Any]) -> None:
        """Add the rates that no schedule drives to an epoch's logs, where there are several."""
        for rate, track in zip(self.parameters, self.tracks(), strict=True):
            if len(self.parameters) > 1 and track is None:
                logs[f"{LEARNING_RATE}_{rate.optimizer.name}"] = self.session.read_rate(rate)

    def peak_steps(self) -> list[Callable[[], float]]:
        """Return functions that find the step at which each schedule first has its highest rate."""
        return [track.peak_step for track in self.tracks() if track and track.peak_step]


class PlateauStart:
    """The step from which values of the metric count, or the epoch if steps are not known."""

    def __init__(
        self, session: FitSession, rates: PlateauRates, start_after: float | int | str | None
    ) -> None:
        """Find the start, unless it depends on a schedule.

        Raises:
            UnresolvedLength: If a length needs a size of the fit that is not known.
        """
        self.rates = rates
        self.steps_per_epoch = session.timeline.steps_per_epoch
        self._start: float | None = None
        if start_after == "warmup":
            return
        timeline = session.timeline
        if timeline.steps_per_epoch is None:
            timeline = Timeline.by_epoch(timeline.epochs)
        self._start = timeline.steps(0 if start_after is None else start_after)
        if self._start and timeline.total is not None and self._start >= timeline.total:
            warn_user(
                f"ReduceLROnPlateau(start_after={start_after!r}) counts nothing in this fit, which "
                "ends before. Give a shorter length, or train longer."
            )

    def check_schedules(self, epoch: int) -> None:
        """Check that the fit has a schedule, if the start depends on one.

        Raises:
            ValueError: If no schedule drives a rate.
        """
        if self._start is None and not self.rates.peak_steps():
            raise ValueError(
                "ReduceLROnPlateau: start_after='warmup' needs a schedule in the same fit, whose "
                "warmup it waits for. Pass one, or give a length such as start_after=5 (epochs)."
            )

    def is_over_before(self, epoch: int, by_steps: bool) -> bool:
        """Return whether an epoch before one, or a batch of it if steps count, is after the start.

        Args:
            epoch: The epoch, above 0.
            by_steps: Whether steps are counted, and not epochs.
        """
        last = int(self.steps_per_epoch or 1) - 1 if by_steps else 0
        return self.is_over(epoch - 1, last)

    def is_over(self, epoch: int, batch: int = 0) -> bool:
        """Return whether a batch, or all of an epoch, comes after the start."""
        if self._start is None:
            # Not earlier: a function of the rate learns its initial rate at the start of the fit.
            self._start = max(find() for find in self.rates.peak_steps())
        steps = self.steps_per_epoch
        return (epoch if steps is None else epoch * steps + batch) >= self._start
