"""What was measured, one record for each structure, start and method; kept in a file, so that hours can be interrupted.

The file has one record a line and only grows, so that several runs may write into one.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.interaction.users import Session
from medseg.errors import ReadError

if TYPE_CHECKING:
    from pathlib import Path

Start = Literal["nothing", "mask"]
Status = Literal["done", "failed", "left out"]
Key = tuple[str, str, str, str, str, str]


@dataclass(frozen=True)
class Conditions:
    """What must be the same for two records to stand in one table.

    Attributes
    ----------
    threads
        Of the networks on a processor.
    device
        Name of the hardware on which the networks run.
    clicks
        How many there are.
    """

    threads: int
    device: str
    clicks: int


@dataclass(frozen=True)
class Record:
    """One structure, what it was begun with, and one method.

    Attributes
    ----------
    group, scan, structure, method
        Their names.
    weights
        SHA-256 of the weights, "" for a rival.
    start
        "nothing", or a bad "mask".
    status
        "done"; "failed"; "left out": it was not tried.
    reason
        Why there is no session.
    session
        ``None`` when there is none.
    """

    group: str
    scan: str
    structure: str
    method: str
    weights: str
    start: Start
    status: Status = "done"
    reason: str = ""
    session: Session | None = None

    @property
    def key(self) -> Key:
        """What tells it from the others of the same conditions."""
        return (self.group, self.scan, self.structure, self.method, self.weights, self.start)


class Records:
    """The records of one run, also in a file when there is a path; each is in the file as soon as it is added.

    Those that the file holds of the same conditions are here from the start; those of others stay in it.

    Raises
    ------
    ReadError
        When the file holds something else.
    """

    def __init__(self, conditions: Conditions, path: Path | None = None) -> None:
        self.conditions, self._path = conditions, path
        self._found: dict[Key, Record] = {}
        if path is not None and path.exists():
            self._load(path)

    def find(self, key: Key) -> Record | None:
        """Return a record that was measured before, ``None`` when it was not, or could not be then."""
        found = self._found.get(key)
        return found if found is not None and found.status == "done" else None

    def add(self, record: Record) -> None:
        """Keep a record in the place of one of the same key."""
        self._found[record.key] = record
        if self._path is not None:
            line = json.dumps({**dataclasses.asdict(self.conditions), **dataclasses.asdict(record)})
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")

    def _load(self, path: Path) -> None:
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                plain = json.loads(line)
                told = {field.name: plain.pop(field.name) for field in dataclasses.fields(Conditions)}
                record = _record(plain)
                if Conditions(**told) == self.conditions:
                    self._found[record.key] = record
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ReadError(
                f"{path} is not a file of records of this comparison.", advice="Name another file, or a new one."
            ) from error


def _record(plain: dict) -> Record:
    session = plain.pop("session")
    if session is not None:
        lists = {name: tuple(session.pop(name)) for name in ("scores", "seconds", "processor_seconds")}
        session = Session(**session, **lists)
    return Record(**plain, session=session)
