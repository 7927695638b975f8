"""The catalogue: public models with their addresses, licences and, where published, checksums. Data only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, ModelError
from medseg.models.checksums import Checksum
from medseg.models.download import Remote, check_address
from medseg.models.fields import Fields, read_json
from medseg.models.library import bundled_folder
from medseg.models.licensing import restricts

if TYPE_CHECKING:
    from collections.abc import Iterable

CATALOGUE = "catalogue.json"
VERSION = 1
"""The version of the catalogue's format, see ``Resources/catalogue.schema.json``."""

FORMATS = {"medseg": "MedSeg package", "nnunet-v2": "nnU-Net v2 results folder", "monai-bundle": "MONAI bundle"}
"""The kinds of models that a catalogue may name."""

RUNNABLE = ("medseg", "nnunet-v2")
"""Those that this MedSeg runs."""

_ADVICE = "Correct the catalogue, or take MEDSEG_CATALOGUE away."


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that can be downloaded.

    Attributes
    ----------
    name
        Unique in the catalogue, lower case.
    format
        A key of ``FORMATS``.
    structures, structure_count
        Names of structures by which it is found, perhaps only the main ones, and how many there are in all.
    license, license_url
        Name of the licence, and where it can be read.
    remote
        Where the file is, with size and checksum as far as they are published.
    checksum_source
        Where the checksum was published, empty without one.
    remarks
        What a user should know before the first run.
    """

    name: str
    title: str
    description: str
    format: str
    version: str
    modalities: tuple[str, ...]
    anatomy: tuple[str, ...]
    structures: tuple[str, ...]
    structure_count: int
    license: str
    license_url: str
    homepage: str
    citation: str
    remarks: str
    remote: Remote
    checksum_source: str = ""

    @property
    def is_restricted(self) -> bool:
        """Whether the licence has to be accepted first."""
        return restricts(self.license)

    @property
    def problem(self) -> str:
        """What keeps this MedSeg from running the model, empty when nothing is known to."""
        if self.format in RUNNABLE:
            return ""
        return f"This MedSeg cannot run a {FORMATS[self.format]} yet."

    @property
    def checksum_text(self) -> str:
        """How a download is checked, as a sentence."""
        checksum = self.remote.checksum
        if checksum is None:
            return "No checksum is published, so the download cannot be compared with one."
        return f"The download is compared with the published {checksum.title}."

    def matches(self, words: str) -> bool:
        """Say whether every typed word occurs in name, title, description, modality, anatomy or structures."""
        text = " ".join((self.name, self.title, self.description, *self.modalities, *self.anatomy, *self.structures))
        return all(word in text.casefold() for word in words.casefold().split())

    def summary(self) -> dict[str, Any]:
        """Return everything as plain data, safe as JSON."""
        checksum = self.remote.checksum
        return {
            **{name: value for name, value in vars(self).items() if name not in ("remote", "checksum_source")},
            "addresses": list(self.remote.addresses),
            "bytes": self.remote.bytes,
            "checksum": None
            if checksum is None
            else {"kind": checksum.kind, "value": checksum.value, "source": self.checksum_source},
            "restricted": self.is_restricted,
            "problem": self.problem,
        }


class Catalogue:
    """The models of one or several catalogue files; where two have the same name, the first counts."""

    def __init__(self, entries: Iterable[CatalogueEntry]) -> None:
        known: dict[str, CatalogueEntry] = {}
        for entry in entries:
            known.setdefault(entry.name, entry)
        self.entries = sorted(known.values(), key=lambda entry: entry.title.casefold())

    def search(self, words: str) -> list[CatalogueEntry]:
        """Return the models that every typed word matches."""
        return [entry for entry in self.entries if entry.matches(words)]

    def find(self, name: str) -> CatalogueEntry | None:
        """Return the model of that name, ``None`` when there is none."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def find_address(self, address: str) -> CatalogueEntry | None:
        """Return the model that is at that address."""
        return next((entry for entry in self.entries if address in entry.remote.addresses), None)

    def find_file(self, name: str) -> CatalogueEntry | None:
        """Return the model whose download is a file of that name, when there is just one."""
        found = [entry for entry in self.entries if entry.remote.name == name]
        return found[0] if len(found) == 1 else None


def load_catalogue() -> Catalogue:
    """Read the catalogue that comes with MedSeg, after that of ``MEDSEG_CATALOGUE``. Nothing is downloaded.

    Raises
    ------
    InputError
        When a catalogue cannot be read or contradicts its format.
    """
    override = os.environ.get("MEDSEG_CATALOGUE", "").strip()
    entries = read_catalogue(Path(override).expanduser()) if override else []
    models = bundled_folder()
    shipped = models.parent / CATALOGUE if models is not None else None
    if shipped is not None and shipped.is_file():
        entries += read_catalogue(shipped)
    return Catalogue(entries)


def read_catalogue(path: Path) -> list[CatalogueEntry]:
    """Read a catalogue file.

    Raises
    ------
    InputError
        When it cannot be read or contradicts its format; the sentence names the field.
    """
    try:
        fields = read_json(path.absolute().parent, path.name)
        if fields.whole("format", low=1, high=10**6) > VERSION:
            raise InputError(f"The catalogue {path} was made for a later MedSeg.", advice="Update MedSeg.")
        entries = [_entry(model) for model in fields.objects("models")]
    except ModelError as error:
        message = error.message.replace("the model package ", "")
        raise InputError(f"The catalogue {path} cannot be used: {message}", advice=_ADVICE) from error
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"The catalogue {path} has '{twice}' twice.", advice=_ADVICE)
    return entries


def _entry(model: Fields) -> CatalogueEntry:
    kind = model.text("format", limit=40)
    if kind not in FORMATS:
        raise model.fail("format", f"one of {', '.join(FORMATS)}")
    checksum, source = None, ""
    if model.has("checksum"):
        given = model.object("checksum")
        source = given.text("source", limit=2000)
        checksum = Checksum(given.text("kind", limit=20), given.text("value", limit=200))
    addresses = model.texts("addresses")
    if not addresses:
        raise model.fail("addresses", "a list of at least one address")
    for address in addresses:
        check_address(address, checksum)
    structures = model.texts("structures")
    return CatalogueEntry(
        name=model.text("name", limit=64),
        title=model.text("title", limit=200),
        description=model.text("description"),
        format=kind,
        version=model.text("version", "", limit=60),
        modalities=model.texts("modalities"),
        anatomy=model.texts("anatomy"),
        structures=structures,
        structure_count=model.whole("structure_count", len(structures), low=0, high=65535),
        license=model.text("license", limit=200),
        license_url=model.text("license_url", "", limit=2000),
        homepage=model.text("homepage", "", limit=2000),
        citation=model.text("citation", ""),
        remarks=model.text("remarks", ""),
        remote=Remote(addresses, model.whole("bytes", low=1) if model.has("bytes") else None, checksum),
        checksum_source=source,
    )
