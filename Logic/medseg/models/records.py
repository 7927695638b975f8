"""What is noted beside an installed model: where it came from, its licence, and the checksum of each of its files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from medseg.errors import ModelError
from medseg.files import write_error
from medseg.models.checksums import digest_of
from medseg.models.fields import read_json
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECORD = "installed.json"
"""The name of the file in the model's folder."""


@dataclass(frozen=True)
class Origin:
    """Where a model came from.

    Attributes
    ----------
    source
        The address, or the name of the file or folder, without the folders above it.
    entry
        Its name in the catalogue, empty for a model that is in none.
    title, license
        What the catalogue says, for models whose own files do not.
    """

    source: str = ""
    entry: str = ""
    title: str = ""
    license: str = ""


@dataclass(frozen=True)
class Record:
    """The note; ``files`` holds the SHA-256 of each file by its path in the folder, with forward slashes."""

    origin: Origin
    installed: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


def write_record(folder: Path, origin: Origin, progress: Progress = NO_PROGRESS) -> Record:
    """Note where the model in ``folder`` came from and what its files are now; replaces an earlier note.

    Raises
    ------
    WriteError
        When the note cannot be written or a file cannot be read.
    """
    try:
        record = Record(origin, f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}", file_hashes(folder, progress))
        data: dict[str, Any] = {**vars(origin), "installed": record.installed, "sha256": dict(record.files)}
        (folder / RECORD).write_text(json.dumps(data, indent=2), encoding="utf-8")
    except OSError as error:
        raise write_error(folder / RECORD, error) from error
    return record


def read_record(folder: Path) -> Record | None:
    """Return the note beside a model, ``None`` when there is none that can be read."""
    try:
        fields = read_json(folder, RECORD)
        hashes = fields.object("sha256", required=False)
        return Record(
            Origin(*(fields.text(name, "", limit=2000) for name in ("source", "entry", "title", "license"))),
            fields.text("installed", "", limit=40),
            {name: hashes.text(name, limit=64) for name in hashes.data},
        )
    except ModelError:
        return None


def file_hashes(folder: Path, progress: Progress = NO_PROGRESS) -> dict[str, str]:
    """Return the SHA-256 of every file below ``folder`` but the note; raise ``OSError`` for one that cannot be read."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD)
    return {
        path.relative_to(folder).as_posix(): digest_of(path, "sha256", progress.part(at / len(files), 1.0))
        for at, path in enumerate(files)
    }
