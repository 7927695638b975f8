"""Which licences ask something of the user, and what is said when one was not accepted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_FREE = (
    "0bsd",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-3.0",
    "cc-by-4.0",
    "isc",
    "mit",
    "unlicense",
)
_UNNAMED = ("", "noassertion", "none", "unknown", "not stated")
_LONGEST_TEXT = 60_000


class LicenseError(ModelError):
    """A licence that has to be accepted first.

    Attributes
    ----------
    title
        The model.
    license
        The name of the licence.
    text
        The text of the licence, as far as the model brings it.
    """

    def __init__(self, title: str, license_name: str, text: str = "") -> None:
        self.title, self.license, self.text = title, license_name, text
        super().__init__(
            f"The model '{title}' is under the licence '{license_name}', which has not been accepted.",
            advice="Read the licence, and accept it if you may use the model for your purpose.",
        )


def restricts(license_name: str) -> bool:
    """Say whether a licence may ask more of a user than to name the authors.

    Only well-known free licences are taken to ask nothing; all others do, also one that is not known. Where none is
    named, such as in a model of one's own laboratory, there is nothing that could be accepted.
    """
    if license_name.partition(";")[0].strip().casefold() in _UNNAMED:
        return False
    words = re.split(r"\s+(?:and|or)\s+", license_name.strip().strip("()").casefold())
    return not all(word.strip("() ").replace(" ", "-") in _FREE for word in words)


def license_text(folder: Path) -> str:
    """Return the text of the licence in a model's folder, empty when it brings none."""
    names = ("LICENSE", "LICENSE.txt", "LICENSE.md", "License.txt")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    try:
        return "" if path is None else path.read_text(encoding="utf-8", errors="replace")[:_LONGEST_TEXT].strip()
    except OSError:
        return ""
