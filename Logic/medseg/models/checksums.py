"""The checksum that a file must have, of the kind that its publisher gives."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"sha256": 64, "sha1": 40, "md5": 32}
"""The kinds that are known, with their hexadecimal digits. SHA-1 and MD5 find damage, but no forgery."""

_TITLES = {"sha256": "SHA-256", "sha1": "SHA-1", "md5": "MD5"}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checksum:
    """A checksum: its kind ("sha256", "sha1" or "md5") and its value, hexadecimal.

    Raises
    ------
    InputError
        For another kind, and for a value that is none of this kind.
    """

    kind: str
    value: str

    def __post_init__(self) -> None:
        digits = KINDS.get(self.kind)
        if digits is None:
            raise InputError(f"'{self.kind}' is no kind of checksum.", advice=f"Known are {', '.join(KINDS)}.")
        if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", self.value):
            raise InputError(
                f"'{self.value[:80]}' is no {self.title} checksum.",
                advice=f"It has {digits} hexadecimal digits, in lower case.",
            )

    @property
    def title(self) -> str:
        """The kind as people write it, such as "SHA-256"."""
        return _TITLES[self.kind]

    @property
    def proves_origin(self) -> bool:
        """Whether nobody can make another file that has this checksum."""
        return self.kind == "sha256"

    def fits(self, path: Path, progress: Progress = NO_PROGRESS) -> bool:
        """Say whether the file has this checksum; raise ``OSError`` when it cannot be read."""
        return digest_of(path, self.kind, progress) == self.value


def digest_of(path: Path, kind: str = "sha256", progress: Progress = NO_PROGRESS) -> str:
    """Return the checksum of a file, hexadecimal; raise ``OSError`` when it cannot be read."""
    digest = hashlib.new(kind, usedforsecurity=False)
    total, done = max(path.stat().st_size, 1), 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress.update(done / total, "Checking")
    return digest.hexdigest()
