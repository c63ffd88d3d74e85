"""`RangeTestResult`: the curve of a range test and what it suggests."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from keras_lr._files import PathLike
from keras_lr.history.columns import read_csv, write_csv
from keras_lr.range_test import rules as range_rules
from keras_lr.range_test.advice import (
    DEFAULT_STEPS,
    Advice,
    Conditions,
    Rehearsal,
    Training,
    confidence_in,
    describe_limits,
    give_advice,
    plan_training,
    tabulate,
)
from keras_lr.range_test.curve import NoSuggestion, smooth_as_rules_do, visible_limits
from keras_lr.range_test.search import SearchResult

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
COLUMNS = ("learning_rate", "value", "lower", "upper")

LOW_BASE = 0.01
"""Share of the higher bound below which the lower one says that noise hid where the fall begins."""

USUAL_BASE = 0.25
"""Share of the higher bound to take instead, as in Smith 2017 (arXiv:1506.01186), sec. 3.3."""

NOISY_BASE = "Noise may hide where the loss begins to fall. Rather begin the cycle at {:.1e}."


@dataclasses.dataclass(frozen=True)
class RangeTestResult:
    """What a range test measured.

    Attributes:
        rates: The rates of the ramp.
        values: The monitored value at each rate; the median where the ramp was repeated.
        lower: Lower quartile over the repeats.
        upper: Upper quartile over the repeats.
        monitor: Name of the monitored value.
        ended: How the ramp ended: ``"complete"``, ``"diverged"``, ``"not finite"`` or
            ``"no more data"``.
        rule: The rule that reads the ramp.
        up: Whether more of the monitored value is better.
        found: What the short runs at constant rates found; None where only the ramp was read.
        reason: Why there is no suggestion; None where there is one.
        conditions: What the test knew of the model and its data; None where it is not recorded.
        training: The training that the suggestion is for, if the test ran inside a fit.
        rehearsal: What longer runs with validation found, if the budget had room for them.

    >>> rates = np.geomspace(1e-6, 1e1, 141)
    >>> result = RangeTestResult.from_curve(rates, (np.log10(rates) + 2.0) ** 2)
    >>> f"{result.suggestion:.4f} {result.suggest('minimum'):.4f}"
    '0.0025 0.0010'
    """

    rates: Array
    values: Array
    lower: Array
    upper: Array
    monitor: str = "loss"
    ended: str = "complete"
    rule: str = "edge"
    up: bool = False
    found: SearchResult | None = None
    reason: str | None = None
    conditions: Conditions | None = None
    training: Training | None = None
    rehearsal: Rehearsal | None = None

    @classmethod
    def from_curve(cls, rates: Any, values: Any, **more: Any) -> Self:
        """Return the result of a curve that was measured elsewhere.

        Args:
            rates: The rates, increasing.
            values: The monitored value at each rate.
            **more: Further attributes of the result.
        """
        rates, values = np.asarray(rates, np.float64), np.asarray(values, np.float64)
        return cls(rates, values, values, values, **more)

    @property
    def losses(self) -> Array:
        """The monitored values as measured, even where more is better."""
        return self.values

    @property
    def _descending(self) -> Array:
        """The values with the sign that makes lower better, for the rules."""
        return -self.values if self.up else self.values

    @property
    def suggestion(self) -> float:
        """The rate to train at, for the training that the test knows of.

        In a fit that is what is left of it, under its schedule: see `training`. The suggestion is
        then that of `advise` for this training.

        Outside a fit the test knows of no training. The suggestion is then a fixed share of the
        best rate of the short runs, for a training run at one rate that is about ten times as long:
        600 steps by default. For a run of known length, ``suggest(steps=..., schedule=...)``
        is better. Its rate differs even for 600 steps, because it depends on how often the data
        repeat and on the schedule. With a `rehearsal`, the suggestion is that of `advise` for 600
        steps at one rate. A rule that reads the ramp alone suggests a rate for no particular
        length.

        Raises:
            NoSuggestion: If the test supports none; the message says why and what to change.
        """
        if self.reason is not None:
            raise NoSuggestion(self.reason)
        if self.found is None:
            return self.suggest()
        advice = self._advice
        return self.found.suggestion if advice is None else advice.rate

    @property
    def _advice(self) -> Advice | None:
        """The advice that the suggestion follows; None where it is that of the short runs alone."""
        if self.found is None or self.conditions is None or self.conditions.trained:
            return None
        training = self.training
        if training is None and self.rehearsal is not None:
            training = Training(DEFAULT_STEPS)
        if training is None:
            return None
        return give_advice(self.found, self.conditions, training, self.rehearsal)

    def suggest(
        self,
        rule: str | None = None,
        *,
        steps: int | None = None,
        epochs: float | None = None,
        schedule: Any = None,
    ) -> float:
        """Return the rate for a training run, or the rate that a rule reads from the ramp alone.

        With ``steps``, ``epochs`` or ``schedule`` it is the rate of `advise`. Without any argument
        it is the suggestion.

        Args:
            rule: ``"edge"``, ``"minimum"``, ``"steepest"``, ``"valley"`` or ``"slide"``, which
                reads the ramp.
            steps: Length of the training in steps.
            epochs: Its length in epochs instead.
            schedule: Its schedule.

        Raises:
            NoSuggestion: If the test supports none.
            TypeError: If an argument has the wrong type.
            ValueError: If ``rule`` comes with another argument, or for the reasons of `advise`.
        """
        if steps is None and epochs is None and schedule is None:
            if rule is None and self.found is not None:
                return self.suggestion
            return range_rules.suggest(self.rates, self._descending, rule or self.rule)
        if rule is not None:
            raise ValueError(
                "Argument `rule` reads the ramp alone, which knows no length and no schedule. "
                f"Leave it out. Received: rule={rule!r}"
            )
        return self.advise(steps=steps, epochs=epochs, schedule=schedule).rate

    def advise(
        self, *, steps: int | None = None, epochs: float | None = None, schedule: Any = None
    ) -> Advice:
        """Return the rate for a run of some length under some schedule, and how sure it is.

        The best rate of the short runs is corrected by what was measured on other problems: how
        the best rate depends on the length, the schedule, the repeats of the data and the kind of
        the optimizer.

        Args:
            steps: Length of the training in steps; by default that of `training`.
            epochs: Its length in epochs instead.
            schedule: A schedule, its class, or the name of its class, whose highest rate is asked
                for; a constant rate by default.

        Raises:
            NoSuggestion: If the test supports none, or the model was trained before it.
            TypeError: If an argument has the wrong type.
            ValueError: If no length or two lengths are given, the length is not positive, the
                number of batches in an epoch is not known, no schedule has that name, or the test
                had no short runs at constant rates.
        """
        if self.reason is not None:
            raise NoSuggestion(self.reason)
        if self.found is None or self.conditions is None:
            raise ValueError(self._explain_no_advice())
        training = self.training
        if training is None or (steps, epochs, schedule) != (None, None, None):
            training = plan_training(self.conditions, steps, epochs, schedule, self.training)
        return give_advice(self.found, self.conditions, training, self.rehearsal)

    def _explain_no_advice(self) -> str:
        """Return why this result gives no rate for a training run of a given length."""
        if self.found is not None:
            why = "a result of 0.1.0 does not say enough. Run the test again"
        elif self.conditions is not None:
            why = f"rule={self.rule!r} reads the ramp alone. Run a test with rule='search'"
        else:
            why = "a curve alone does not say enough. Run the test"
        return (
            "RangeTestResult: a rate for a training run of a given length needs the short runs "
            f"of LRRangeTest(rule='search'); {why}. Received: {self!r}"
        )

    @property
    def bounds(self) -> tuple[float, float]:
        """The rates between which to cycle: ``TriangularCLR(*result.bounds)``.

        In a fit the higher one is the suggestion, for what is left of the fit.

        Raises:
            NoSuggestion: If the test supports none.
        """
        if self.reason is not None:
            raise NoSuggestion(self.reason)
        if self.found is None:
            return range_rules.bounds(self.rates, self._descending)
        low, high = self.found.bounds
        if self.training is not None:
            low, high = low * self.suggestion / high, self.suggestion
        return low, high

    @property
    def confidence(self) -> float:
        """The confidence in the suggestion, from 0 to 1; 0 where there is none.

        It is the share of such suggestions that lie within a factor of two of the best rate of the
        training that they are for, as measured on other problems. Without short runs, and in a
        model that was trained before, it is the share of re-readings that agree within a factor of
        two.
        """
        if self.reason is not None:
            return 0.0
        if self.found is not None:
            if self.conditions is None or self.conditions.trained:
                return self.found.confidence
            advice = self._advice
            return (
                confidence_in(self.found, self.conditions) if advice is None else advice.confidence
            )
        try:
            return range_rules.confidence(self.rates, self._descending, self.rule)
        except NoSuggestion:
            return 0.0

    def report(self) -> str:
        """Return in plain words what the test shows, or what to change so that it shows more.

        The report says which training the suggestion is for. A table gives rates for a constant
        rate and two schedules, at the length of the fit (else 1,000 steps), and at ten times that.
        """
        text = self._describe()
        if self.up:
            text += (
                f"\nA higher {self.monitor!r} is better: above, the loss stands for its negative."
            )
        return text

    def _describe(self) -> str:
        if self.reason is not None:
            return self.reason
        if self.found is None:
            return range_rules.report(self.rates, self._descending, self.rule)
        if self.conditions is None:
            # 0.1.0 put the suggestion into the words of the search.
            return self.found.report
        low, high = self.bounds
        known = "if the length is not known"
        if self.training is not None:
            known = f"for the training to come, {self.training}"
        lines = [
            self.found.report,
            *([] if self.rehearsal is None else [str(self.rehearsal)]),
            f"Suggestion {known}: {self.suggestion:.1e}; for a cycle: {low:.1e} to {high:.1e}.",
            *([NOISY_BASE.format(USUAL_BASE * high)] if low < LOW_BASE * high else []),
            *describe_limits(self.conditions),
        ]
        if not self.conditions.trained:
            lines += tabulate(self.found, self.conditions, self.training, self.rehearsal)
        return "\n".join(lines)

    def __repr__(self) -> str:
        shown = f"no suggestion: {self.reason}"
        if self.reason is None:
            try:
                shown = f"suggestion={self.suggestion:.3g}"
            except NoSuggestion as error:
                shown = f"no suggestion: {error}"
        return f"RangeTestResult({len(self.rates)} points, {self.ended}, {shown})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the raw and the smoothed curve, its slope, the suggestion and the bounds.

        Args:
            ax: Axes to draw into; by default those of a new figure.
        """
        from keras_lr.range_test.plot import plot_range_test

        return plot_range_test(self, ax=ax)

    def _repr_html_(self) -> str:
        """Return HTML with the curve, the suggestion and the bounds."""
        from keras_lr.plotting.svg import Line, Panel, draw_panels, frame

        finite = np.isfinite(self.values)
        rates, values = self.rates[finite], self.values[finite]
        if len(rates) < 2:
            return frame(repr(self), "")
        smoothed = smooth_as_rules_do(rates, values, self.up)
        try:
            found: dict[str, Any] = {"marks": [self.suggestion], "band": self.bounds}
        except NoSuggestion:
            found = {}
        low, high = visible_limits(values, smoothed, self.up)
        panel = Panel(
            self.monitor,
            [Line(rates, values, faint=True), Line(rates, smoothed)],
            "learning rate",
            log=True,
            limits=(max(low, 0.0) if values.min() >= 0.0 else low, high),
            **found,
        )
        return frame(repr(self), draw_panels([panel]), self.report())

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas ``DataFrame``, one row per point."""
        import pandas

        columns = (self.rates, self.values, self.lower, self.upper)
        return pandas.DataFrame(dict(zip(COLUMNS, columns, strict=True)))

    def to_dict(self) -> dict[str, Any]:
        """Return the whole result as plain data."""
        plain = {name: _plain(value) for name, value in vars(self).items()}
        for name, value in {"conditions": self.conditions, "training": self.training}.items():
            # Results of 0.1.0 have neither, and stay as they are.
            plain.pop(name, None)
            if value is not None:
                plain[name] = value.to_dict()
        plain.pop("rehearsal", None)
        if self.rehearsal is not None:
            losses = [[float(rate), loss] for rate, loss in self.rehearsal.losses.items()]
            told = {"training": self.rehearsal.training.to_dict(), "losses": losses}
            plain["rehearsal"] = vars(self.rehearsal) | told
        if self.found is not None:
            found = {name: _plain(value) for name, value in vars(self.found).items()}
            holds = [[float(rate), losses.tolist()] for rate, losses in self.found.holds.items()]
            plain["found"] = found | {"holds": holds}
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Return the result that `to_dict` made plain.

        Raises:
            ValueError: If ``plain`` is not such data.
        """
        try:
            found = plain["found"]
            if found is not None:
                holds = {rate: np.array(losses, np.float64) for rate, losses in found["holds"]}
                more = {"bounds": tuple(found["bounds"]), "holds": holds}
                found = SearchResult(**found | _arrays(found, "rates", "losses") | more)
            curve = _arrays(plain, "rates", "values", "lower", "upper")
            told: dict[str, Any] = {
                name: kind(**plain[name])
                for name, kind in {"conditions": Conditions, "training": Training}.items()
                if name in plain
            }
            if "rehearsal" in plain:
                rehearsal = plain["rehearsal"]
                parts = {
                    "training": Training(**rehearsal["training"]),
                    "losses": dict(rehearsal["losses"]),
                }
                told["rehearsal"] = Rehearsal(**rehearsal | parts)
            return cls(**plain | curve | {"found": found} | told)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "RangeTestResult.from_dict: argument `plain` must be what to_dict() returned: "
                f"{error!r}. Received: plain={reprlib.repr(plain)}"
            ) from error

    def to_csv(self, path: PathLike) -> None:
        """Write the curve to a CSV file, which appears whole or not at all.

        The last line, ``# rows=...``, has a checksum. Other programs must skip it:
        ``pandas.read_csv(path, comment="#")``.
        """
        columns = (self.rates, self.values, self.lower, self.upper)
        numbers = (np.asarray(column, np.float64) for column in columns)
        write_csv(path, dict(zip(COLUMNS, numbers, strict=True)))

    @classmethod
    def from_csv(cls, path: PathLike, **more: Any) -> Self:
        """Return the result with the curve that `to_csv` wrote, for the rules to read.

        Args:
            path: The file.
            **more: Further attributes of the result.

        Raises:
            ValueError: If the file holds no such curve, or was cut or altered.
        """
        columns = read_csv(path, COLUMNS, kind="curve written by RangeTestResult.to_csv")
        rates, values, lower, upper = (columns[name] for name in COLUMNS)
        return cls(rates, values, lower, upper, **more)


def _plain(value: Any) -> Any:
    """Return an array, a numpy number, or a tuple of them as plain Python data."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _arrays(plain: dict[str, Any], *names: str) -> dict[str, Array]:
    return {name: np.array(plain[name], np.float64) for name in names}
