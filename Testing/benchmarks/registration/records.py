"""What was measured, one record for each pair and method; kept in a file, so that hours of work can be interrupted."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.registration.job import Costs
from benchmarks.registration.measure import Measured, PointErrors
from medseg.errors import ReadError
from medseg.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = "before"
"""Name of the method that does nothing."""

Status = Literal["done", "failed", "left out"]


@dataclass(frozen=True)
class Conditions:
    """What must be the same for two records to stand in one table."""

    threads: int
    quick: bool


@dataclass(frozen=True)
class Record:
    """One pair and one method.

    Attributes
    ----------
    pair, group, method
        Their names.
    status
        "done"; "failed": it gave no transform; "left out": it was not tried.
    reason
        Why there is no transform.
    measured, costs
        ``None`` when there is none; costs also for doing nothing.
    """

    pair: str
    group: str
    method: str
    status: Status = "done"
    reason: str = ""
    measured: Measured | None = None
    costs: Costs | None = None


class Records:
    """The records of one table, also in a file when there is a path; each is in the file as soon as it is added.

    Those that the file holds of the same conditions are here from the start; those of others are kept in it.
    """

    def __init__(self, conditions: Conditions, path: Path | None = None) -> None:
        self.conditions, self._path = conditions, path
        self._found: dict[tuple[str, str, str], Record] = {}
        self._others: list[dict] = []
        if path is not None and path.exists():
            self._load(path)

    def find(self, group: str, pair: str, method: str) -> Record | None:
        """Return a record that was measured before, ``None`` when it was not, or could not be then."""
        found = self._found.get((group, pair, method))
        return found if found is not None and found.status == "done" else None

    def add(self, record: Record) -> None:
        """Keep a record in the place of one of the same pair and method."""
        self._found[record.group, record.pair, record.method] = record
        if self._path is not None:
            told = {**dataclasses.asdict(self.conditions)}
            plain = [*self._others, *({**told, **dataclasses.asdict(one)} for one in self._found.values())]
            with atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")

    def _load(self, path: Path) -> None:
        try:
            for one in json.loads(path.read_text(encoding="utf-8")):
                conditions = Conditions(one["threads"], one["quick"])
                if conditions == self.conditions:
                    record = _record(one)
                    self._found[record.group, record.pair, record.method] = record
                else:
                    self._others.append(one)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ReadError(
                f"{path} is not a file of records of this comparison.", advice="Name another file, or a new one."
            ) from error


def _record(plain: dict) -> Record:
    measured, costs = plain["measured"], plain["costs"]
    if measured is not None:
        points = measured["points"]
        measured = Measured(
            None if points is None else PointErrors(**points),
            {int(value): dice for value, dice in measured["dice"].items()},
            measured["folded"],
            measured["folded_strict"],
        )
    return Record(
        **{name: plain[name] for name in ("pair", "group", "method", "status", "reason")},
        measured=measured,
        costs=None if costs is None else Costs(**costs),
    )
