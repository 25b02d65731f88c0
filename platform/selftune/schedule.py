"""Schedules: what hyperparameters did during one training run, to be followed in any other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selftune.errors import SettingError
from selftune.shapes import Float, Int

if TYPE_CHECKING:
    from selftune.hyperparameters import Space

FILE = "schedule.json"
_FORMAT = "selftune schedule 1"


@dataclass(frozen=True, eq=False)
class Schedule:
    """Values of hyperparameters by training step: constant within a segment, one row per segment.

    Averages are taken where hyperparameters are tuned: of logarithms where a value is positive, of logits where it
    lies between two bounds.

    Args:
        names: of the hyperparameters, the columns.
        ends: training steps at which the segments end, ascending, the last one the length of the run.
        values: a row per segment.
        bounds: the lowest and the highest value of every hyperparameter; infinite where there is none.

    Raises:
        SettingError: if the shapes do not fit, the ends do not ascend, or a value is outside its bounds.

    >>> schedule = Schedule(("dropout.rate",), np.array([100, 200]), np.array([[0.1], [0.3]]), ((0.0, 1.0),))
    >>> schedule.at(99), schedule.at(100)
    ({'dropout.rate': 0.1}, {'dropout.rate': 0.3})
    >>> schedule.stretched(1000).at(499)
    {'dropout.rate': 0.1}
    """

    names: tuple[str, ...]
    ends: Int[np.ndarray, "segments"]
    values: Float[np.ndarray, "segments n"]
    bounds: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        wanted = (len(self.ends), len(self.names))
        if not len(self.ends) or self.values.shape != wanted or len(self.bounds) != len(self.names):
            raise SettingError(
                "values",
                f"must have a row per segment and a column per name, {wanted}, got {self.values.shape}"
                f" with {len(self.bounds)} bounds",
            )
        if self.ends[0] < 1 or (np.diff(self.ends) < 1).any():
            raise SettingError("ends", "must be training steps of at least 1 that ascend")
        low, high = self._limits
        slack = np.finfo(np.float32).eps * np.abs(self.values)  # values may have been computed in single precision
        if not ((low - slack <= self.values) & (self.values <= high + slack)).all():
            raise SettingError("values", "must be numbers within the bounds")

    @classmethod
    def of_run(
        cls,
        space: Space,
        training_steps: Int[np.ndarray, "rows"],
        values: Float[np.ndarray, "rows n"],
        steps: int,
    ) -> Schedule:
        """What a run of so many steps did: row i was in force up to its own training step, the last to the end.

        Args:
            space: its tuned hyperparameters are the columns.
        """
        kept = (training_steps > 0) & (np.diff(training_steps, append=np.inf) > 0)
        ends = training_steps[kept].astype(np.int64)
        ends[-1:] = max(steps, *ends[-1:])
        bounds = tuple(h.domain.limits for h in space.tuned for _ in h.names)
        return cls(space.names, ends, values[kept].astype(np.float64), bounds)

    @property
    def steps(self) -> int:
        """Training steps of the run."""
        return int(self.ends[-1])

    @property
    def _limits(self) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        low, high = np.array(self.bounds, dtype=np.float64).reshape(-1, 2).T
        return low, high

    def at(self, step: int) -> dict[str, float]:
        """The values in training step ``step``, counted from 0; those of the last segment ever after.

        Raises:
            SettingError: if the step is negative.
        """
        if step < 0:
            raise SettingError("step", f"must be at least 0, got {step}")
        row = min(int(np.searchsorted(self.ends, step, side="right")), len(self.ends) - 1)
        return dict(zip(self.names, self.values[row].tolist(), strict=True))

    def stretched(self, steps: int) -> Schedule:
        """The same course over another number of training steps; segments that vanish are left out.

        Raises:
            SettingError: if there is not a single step.
        """
        if steps < 1:
            raise SettingError("steps", f"must be at least 1, got {steps}")
        ends = np.rint(self.ends * (steps / self.steps)).astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]])
        kept = ends > starts
        return replace(self, ends=ends[kept], values=self.values[kept])

    def smoothed(self, steps: int) -> Schedule:
        """Every segment takes the mean over so many training steps around its middle, less at the two ends.

        Raises:
            SettingError: if there is not a single step.
        """
        if steps < 1:
            raise SettingError("steps", f"must be at least 1, got {steps}")
        edges = np.concatenate([[0], self.ends]).astype(np.float64)
        middles = (edges[:-1] + edges[1:]) / 2
        half = np.minimum(np.minimum(steps / 2, middles), self.steps - middles)
        free = self._unconstrained(self.values)
        integral = np.concatenate(
            [np.zeros((1, len(self.names))), np.cumsum(free * np.diff(edges)[:, None], axis=0)]
        )
        upto = [
            np.stack([np.interp(at, edges, column) for column in integral.T], axis=1)
            for at in (middles - half, middles + half)
        ]
        return replace(self, values=self._constrained((upto[1] - upto[0]) / (2 * half)[:, None]))

    def held(self, step: int | None = None) -> Schedule:
        """The values of one training step, by default of the last, from the first step to the last."""
        row = self.at(self.steps if step is None else step)
        return replace(self, ends=self.ends[-1:], values=np.array([list(row.values())]))

    def settled(self, share: float) -> Schedule:
        """The same course up to the last ``share`` of the steps; from there on its mean over them is held.

        Raises:
            SettingError: if the share is not above 0 and at most 1.

        >>> values = np.array([[0.1], [0.2], [0.4]])
        >>> schedule = Schedule(("dropout.rate",), np.array([8, 9, 10]), values, ((0.0, 1.0),))
        >>> schedule.settled(0.2).ends, schedule.settled(0.2).at(9)
        (array([ 8, 10]), {'dropout.rate': 0.28989...})
        """
        if not 0 < share <= 1:
            raise SettingError("share", f"must be above 0 and at most 1, got {share}")
        since = min(self.steps - round(share * self.steps), self.steps - 1)
        edges = np.concatenate([[0], self.ends])
        weights = np.clip(edges[1:] - np.maximum(edges[:-1], since), 0, None)
        free = (self._unconstrained(self.values) * weights[:, None]).sum(axis=0) / weights.sum()
        kept = edges[:-1] < since
        return replace(
            self,
            ends=np.append(np.minimum(self.ends[kept], since), self.steps),
            values=np.concatenate([self.values[kept], self._constrained(free[None])]),
        )

    @classmethod
    def mean(cls, schedules: Iterable[Schedule]) -> Schedule:
        """The mean of schedules of one length, as of several seeds.

        Raises:
            SettingError: if there is none, or they differ in hyperparameters, bounds or length.
        """
        every = list(schedules)
        if not every:
            raise SettingError("schedules", "must be at least one")
        first = every[0]
        for other in every[1:]:
            first.check_names(other.names)
            if (other.bounds, other.steps) != (first.bounds, first.steps):
                raise SettingError(
                    "schedules", "differ in bounds or length; stretch them to one number of steps first"
                )
        ends = np.unique(np.concatenate([schedule.ends for schedule in every]))
        rows = [schedule.values[np.searchsorted(schedule.ends, ends)] for schedule in every]
        return replace(
            first, ends=ends, values=first._constrained(np.mean([first._unconstrained(r) for r in rows], axis=0))
        )

    def check_names(self, names: Sequence[str]) -> None:
        """Refuses another set of hyperparameters.

        Raises:
            SettingError: one sentence with the names that differ.
        """
        if tuple(names) != self.names:
            parts = [
                f"{verb} {_listed(sorted(set(a) - set(b)))}"
                for verb, a, b in (("lacks", names, self.names), ("moves", self.names, names))
                if set(a) - set(b)
            ]
            raise SettingError(
                "schedule",
                f"is one of other hyperparameters: it {' and '.join(parts) or 'has them in another order'}",
            )

    def check_space(self, space: Space) -> None:
        """Refuses a schedule of other hyperparameters than a space's, or with values outside of their domains.

        Raises:
            SettingError: one sentence with what differs.
        """
        self.check_names(space.names)
        limits = np.array([h.domain.limits for h in space.tuned for _ in h.names], dtype=np.float64).reshape(-1, 2)
        slack = np.finfo(np.float32).eps * np.abs(self.values)
        for name, column, (low, high), room in zip(self.names, self.values.T, limits, slack.T, strict=True):
            strange = column[(column + room < low) | (column - room > high)]
            if strange.size:
                raise SettingError(
                    "schedule", f"gives {name} the value {strange[0]:.6g}, which is not in [{low:g}, {high:g}]"
                )

    # Files --------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Writes ``schedule.json``, which ten lines of Python without selftune can follow (docs/schedules.md)."""
        from selftune.storage.files import replacing

        bounds = [[None if math.isinf(bound) else bound for bound in pair] for pair in self.bounds]
        table = {"format": _FORMAT, "names": self.names, "bounds": bounds, "ends": self.ends.tolist()}
        with replacing(Path(path)) as temporary:
            text = json.dumps(table | {"values": self.values.tolist()}, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Schedule:
        """Reads what ``save`` wrote: a file, or the folder of a study or of ``tune``, which holds one.

        Raises:
            SettingError: if there is none, or it is not a schedule.
        """
        file = Path(path) / FILE if Path(path).is_dir() else Path(path)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingError(
                str(file), "is not there; give a schedule.json, or a folder that holds one"
            ) from None
        except (OSError, ValueError) as error:
            raise SettingError(str(file), f"cannot be read as a schedule: {error}") from error
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise SettingError(str(file), f"is no schedule of this version, which says format: {_FORMAT!r}")
        try:
            return cls(
                names=tuple(found["names"]),
                ends=np.array(found["ends"], dtype=np.int64),
                values=np.array(found["values"], dtype=np.float64).reshape(len(found["ends"]), -1),
                bounds=tuple((_bound(low, -math.inf), _bound(high, math.inf)) for low, high in found["bounds"]),
            )
        except SettingError as error:
            raise SettingError(f"{file}: {error.key}", error.message) from error
        except (KeyError, TypeError, ValueError) as error:
            raise SettingError(str(file), f"is a damaged schedule ({type(error).__name__}: {error})") from error

    # Where averages are taken --------------------------------------------------------------------------

    def _unconstrained(self, values: Float[np.ndarray, "segments n"]) -> Float[np.ndarray, "segments n"]:
        return self._column_by_column(values, _free)

    def _constrained(self, free: Float[np.ndarray, "segments n"]) -> Float[np.ndarray, "segments n"]:
        return np.asarray(np.clip(self._column_by_column(free, _bounded), *self._limits))

    def _column_by_column(
        self, table: Float[np.ndarray, "segments n"], change: Callable[..., Any]
    ) -> Float[np.ndarray, "segments n"]:
        columns = [change(column, low, high) for column, (low, high) in zip(table.T, self.bounds, strict=True)]
        return np.stack(columns, axis=1) if columns else table


def _listed(names: Sequence[str], most: int = 5) -> str:
    """Names in a sentence, not more than can be read."""
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def _bound(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _free(value: Any, low: float, high: float) -> Any:
    least = np.finfo(np.float64).tiny
    below, above = np.maximum(value - low, least), np.maximum(high - value, least)
    if math.isfinite(low) and math.isfinite(high):
        return np.log(below) - np.log(above)
    if math.isfinite(low):
        return np.log(below)
    return -np.log(above) if math.isfinite(high) else value


def _bounded(free: Any, low: float, high: float) -> Any:
    if math.isfinite(low) and math.isfinite(high):
        return low + (high - low) / (1 + np.exp(-free))
    if math.isfinite(low):
        return low + np.exp(free)
    return high - np.exp(-free) if math.isfinite(high) else free
