"""Add a model to the library from wherever it is: a folder, a zip file, an address or the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ModelError, ReadError
from medseg.models.archive import import_zip
from medseg.models.download import Remote, downloaded
from medseg.models.installing import install_folder
from medseg.models.licensing import LicenseError, license_text, restricts
from medseg.models.records import Origin
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from medseg.models.catalogue import Catalogue, CatalogueEntry
    from medseg.models.checksums import Checksum
    from medseg.models.library import ModelLibrary
    from medseg.models.package import ModelPackage

_UNPACK_FROM = 0.9
"""Where unpacking begins on the progress bar of a download."""


def add_model(
    source: str | Path,
    library: ModelLibrary | None = None,
    *,
    catalogue: Catalogue | None = None,
    checksum: Checksum | None = None,
    accept_license: bool = False,
    overwrite: bool = False,
    progress: Progress = NO_PROGRESS,
) -> ModelPackage:
    """Install a model, whole or not at all.

    Parameters
    ----------
    source
        A folder or zip file, an address that begins with ``https://``, or the name of a model in the catalogue, in this
        order. A file or address that the catalogue knows is checked and described as the catalogue says.
    library
        Where it goes: the first folder of this library; ``None``: the user's folder of models.
    catalogue
        Where names are looked up; ``None``: :func:`medseg.models.catalogue.load_catalogue`.
    checksum
        What the file must have, for a file or address that is not in the catalogue.
    accept_license
        The user has read the licence and accepts it. Well-known free licences need no such consent.
    overwrite
        Replace a model of the same name.

    Raises
    ------
    LicenseError
        When the licence has to be accepted first: before a download when the catalogue names it, else before the model
        is put into the library.
    ModelError
        When there is no such model, it is damaged or cannot be run.
    ReadError
        When it cannot be downloaded.
    WriteError
        When there is a model of this name already, or the disk is full.
    Cancelled
        When the user asked to stop.
    """
    if catalogue is None:
        from medseg.models.catalogue import load_catalogue

        catalogue = load_catalogue()
    text = str(source).strip()
    path = Path(text).expanduser()

    def consent(package: ModelPackage, origin: Origin) -> None:
        name = origin.license or package.license
        if restricts(name) and not accept_license:
            raise LicenseError(package.title, name, license_text(package.folder))

    if _exists(path):
        if path.is_dir():
            return install_folder(path, library, overwrite=overwrite, check=consent, progress=progress)
        entry = catalogue.find_file(path.name)
        _check_file(path, entry, checksum, progress)
        origin = _origin(entry) if entry else Origin(path.name)
        return import_zip(path, library, overwrite=overwrite, origin=origin, check=consent, progress=progress)
    is_address = "://" in text
    entry = catalogue.find_address(text) if is_address else catalogue.find(text)
    if entry is None and not is_address:
        raise ModelError(
            f"There is no file or folder '{text[:200]}', and no model of this name in the catalogue.",
            advice="See what there is with 'medseg models catalogue'.",
        )
    if entry is not None:
        if entry.problem:
            raise ModelError(f"'{entry.title}' cannot be installed. {entry.problem}", advice="Look for a newer MedSeg.")
        if entry.is_restricted and not accept_license:
            raise LicenseError(entry.title, entry.license, entry.license_url)
    remote = entry.remote if entry else Remote((text,), checksum=checksum)
    with downloaded(remote, progress=progress.part(0.0, _UNPACK_FROM)) as file:
        return import_zip(
            file,
            library,
            overwrite=overwrite,
            origin=_origin(entry) if entry else Origin(text),
            check=consent,
            progress=progress.part(_UNPACK_FROM, 1.0),
        )


def _origin(entry: CatalogueEntry) -> Origin:
    return Origin(entry.remote.addresses[0], entry.name, entry.title, entry.license)


def _check_file(path: Path, entry: CatalogueEntry | None, checksum: Checksum | None, progress: Progress) -> None:
    expected = entry.remote.checksum if entry is not None and checksum is None else checksum
    if expected is None:
        return
    try:
        fits = expected.fits(path, progress.part(0.0, 0.1))
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not fits:
        raise ModelError(
            f"{path} is not the published file: its {expected.title} is another.",
            advice="Download it again; it may be incomplete or changed.",
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
