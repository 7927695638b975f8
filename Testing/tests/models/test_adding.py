"""Models from a server, a file or a folder into the library: whole or not at all, and with the licence accepted."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medseg.errors import Cancelled, ModelError, WriteError
from medseg.models import ModelLibrary, archive, download, load_network, read_package, remove_model
from medseg.models.adding import add_model
from medseg.models.checksums import Checksum
from medseg.models.download import DownloadError, Patience, downloads_folder
from medseg.models.exporting import export_model
from medseg.models.licensing import LicenseError
from medseg.models.records import RECORD, read_record
from medseg.models.verifying import verify_library
from medseg.progress import Progress
from support.catalogues import OfferedModel, offer, zipped
from support.web_server import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

RESTRICTED = "CC-BY-NC-4.0"


@pytest.fixture
def an_offered_model(
    bright_blob_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OfferedModel]:
    """A model on a server, named by the catalogue of the house."""
    monkeypatch.setenv("MEDSEG_CATALOGUE", str(tmp_path / "catalogue.json"))
    monkeypatch.setattr(download, "PATIENCE", Patience(seconds=1.0, attempts=2, pause=0.01))
    offered = offer(bright_blob_package, tmp_path / "catalogue.json")
    yield offered
    offered.server.close()


def installed() -> list[str]:
    """Everything in the user's folder of models, hidden drafts too."""
    folder = ModelLibrary().paths[0]
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def restricted_copy(package: Path, target: Path) -> Path:
    """Copy a package and put it under a licence that has to be accepted."""
    shutil.copytree(package, target)
    metadata = target / "configs" / "metadata.json"
    data = json.loads(metadata.read_text(encoding="utf-8"))
    data["medseg"]["license"] = RESTRICTED
    metadata.write_text(json.dumps(data), encoding="utf-8")
    (target / "LICENSE").write_text("Not for money.", encoding="utf-8")
    return target


def test_a_model_of_the_catalogue_is_installed_with_a_note_of_where_it_came_from(
    an_offered_model: OfferedModel,
) -> None:
    told: list[float] = []
    package = add_model(an_offered_model.name, progress=Progress(lambda fraction, _: told.append(fraction)))
    assert installed() == ["bright-blob"]
    assert told == sorted(told)
    record = read_record(package.folder)
    assert (record.origin.entry, record.origin.source) == (an_offered_model.name, an_offered_model.server.address)
    assert record.files["models/model.pt"] == package.weights.sha256
    assert not any(path.is_file() for path in downloads_folder().rglob("*"))


def test_an_address_that_the_catalogue_does_not_know_needs_no_entry(
    an_offered_model: OfferedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDSEG_CATALOGUE")
    with pytest.raises(DownloadError, match="SHA-256"):
        add_model(an_offered_model.server.address, checksum=Checksum("sha256", "0" * 64))
    assert installed() == []
    assert add_model(an_offered_model.server.address).name == "bright-blob"


@pytest.mark.parametrize(
    "misdeed",
    [
        Answer(break_after=1000),
        Answer(stall_after=1000),
        Answer(content=b"no zip file at all"),
        Answer(length=12),
        Answer(status=403),
        Answer(status=206, range_text="bytes 0-9/10"),
    ],
    ids=["breaks", "stalls", "other bytes", "other length", "forbids", "part"],
)
def test_a_bad_server_leaves_nothing_half_installed(an_offered_model: OfferedModel, misdeed: Answer) -> None:
    an_offered_model.server.answers = [misdeed] * 20
    if misdeed.break_after or misdeed.stall_after:
        # Resuming is refused too, or a thousand bytes at a time would come to the whole in the end.
        misdeed.ignore_range = True
    with pytest.raises(DownloadError):
        add_model(an_offered_model.name)
    assert installed() == []
    an_offered_model.server.answers = []
    assert add_model(an_offered_model.name).name == "bright-blob"


def test_a_download_without_checksum_that_is_no_model_is_not_installed(an_offered_model: OfferedModel) -> None:
    an_offered_model.describe(checksum=None, bytes=None)
    an_offered_model.server.answers = [Answer(content=b"PK but no zip file")]
    with pytest.raises(ModelError, match="no usable zip"):
        add_model(an_offered_model.name)
    assert installed() == []


def test_cancelling_while_it_unpacks_leaves_nothing(an_offered_model: OfferedModel) -> None:
    said: list[str] = []
    progress = Progress(lambda _, text: said.append(text), lambda: bool(said) and said[-1].startswith("Unpacking"))
    with pytest.raises(Cancelled):
        add_model(an_offered_model.name, progress=progress)
    assert installed() == []


def test_a_full_disk_while_it_unpacks_leaves_nothing_and_saves_the_download(
    an_offered_model: OfferedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(archive, "_unpack_member", full)
        with pytest.raises(WriteError, match="disk is full"):
            add_model(an_offered_model.name)
    assert installed() == []
    add_model(an_offered_model.name)
    assert len(an_offered_model.server.seen) == 1, "the file was still there"


def test_a_restricted_licence_is_asked_about_before_the_download(an_offered_model: OfferedModel) -> None:
    an_offered_model.describe(license=RESTRICTED)
    with pytest.raises(LicenseError, match=RESTRICTED):
        add_model(an_offered_model.name)
    assert an_offered_model.server.seen == []
    package = add_model(an_offered_model.name, accept_license=True)
    assert read_record(package.folder).origin.license == RESTRICTED


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_restricted_licence_in_a_file_is_shown_before_it_is_installed(
    bright_blob_package: Path, tmp_path: Path, kind: str
) -> None:
    source = restricted_copy(bright_blob_package, tmp_path / "restricted")
    if kind == "zip":
        content = zipped(source)
        source = tmp_path / "restricted.zip"
        source.write_bytes(content)
    with pytest.raises(LicenseError, match=RESTRICTED) as refusal:
        add_model(source)
    assert refusal.value.text == "Not for money."
    assert installed() == []
    assert add_model(source, accept_license=True).license == RESTRICTED


def test_a_file_that_was_downloaded_elsewhere_is_checked_as_the_catalogue_says(
    an_offered_model: OfferedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_OFFLINE", "1")
    with pytest.raises(DownloadError, match="MEDSEG_OFFLINE"):
        add_model(an_offered_model.name)
    file = tmp_path / "model.zip"
    file.write_bytes(an_offered_model.server.content[:-1] + b"!")
    with pytest.raises(ModelError, match="SHA-256 is another"):
        add_model(file)
    file.write_bytes(an_offered_model.server.content)
    assert read_record(add_model(file).folder).origin.entry == an_offered_model.name
    assert an_offered_model.server.seen == []


def test_what_this_medseg_cannot_run_is_not_downloaded(an_offered_model: OfferedModel) -> None:
    an_offered_model.describe(format="monai-bundle")
    with pytest.raises(ModelError, match="MONAI bundle yet"):
        add_model(an_offered_model.name)
    assert an_offered_model.server.seen == []


def test_a_name_that_means_nothing_is_told() -> None:
    with pytest.raises(ModelError, match="no model of this name in the catalogue"):
        add_model("no-such-model")


def test_an_installed_model_is_replaced_only_when_asked(an_offered_model: OfferedModel) -> None:
    add_model(an_offered_model.name)
    with pytest.raises(WriteError, match="already"):
        add_model(an_offered_model.name)
    add_model(an_offered_model.name, overwrite=True)


def test_an_exported_model_can_be_added_elsewhere_and_keeps_its_licence(
    an_offered_model: OfferedModel, tmp_path: Path
) -> None:
    an_offered_model.describe(license=RESTRICTED)
    package = add_model(an_offered_model.name, accept_license=True)
    written = export_model(package, tmp_path)
    assert written == tmp_path / f"bright-blob-{package.version}.zip"
    with zipfile.ZipFile(written) as content:
        assert {name.split("/")[0] for name in content.namelist()} == {"bright-blob"}
    elsewhere = ModelLibrary([tmp_path / "elsewhere"])
    with pytest.raises(LicenseError, match=RESTRICTED):
        add_model(written, elsewhere)
    again = add_model(written, elsewhere, accept_license=True)
    assert read_record(again.folder).origin.entry == an_offered_model.name
    assert again.weights.sha256 == package.weights.sha256
    with pytest.raises(WriteError):
        export_model(package, tmp_path / "nowhere" / "a.zip")


def test_an_export_that_was_damaged_on_its_way_is_refused(an_offered_model: OfferedModel, tmp_path: Path) -> None:
    package = add_model(an_offered_model.name)
    (package.folder / "labels.csv").write_text((package.folder / "labels.csv").read_text() + "\n")
    written = export_model(package, tmp_path / "a.zip")
    with pytest.raises(ModelError, match=r"labels\.csv"):
        add_model(written, ModelLibrary([tmp_path / "elsewhere"]))


def test_verifying_names_the_file_that_was_damaged_lost_or_added(an_offered_model: OfferedModel) -> None:
    package = add_model(an_offered_model.name)
    library = ModelLibrary()
    sound = {one.name: one for one in verify_library(library)}
    assert all(one.is_sound for one in sound.values())
    assert sound["bright-blob"].compared > 3

    weights = package.weights.path
    status = weights.stat()
    content = bytearray(weights.read_bytes())
    content[200] ^= 1
    weights.write_bytes(content)
    # Also when the file looks as old as before, which is all that a quick look would compare.
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    (package.folder / "LICENSE").unlink()
    (package.folder / "script.py").write_text("")
    (found,) = verify_library(library, ("bright-blob",))
    said = " ".join(found.problems)
    assert "models/model.pt is damaged" in said
    assert "LICENSE is missing" in said
    assert "script.py did not come with the model" in said


def test_a_model_that_was_put_there_by_hand_is_compared_with_what_it_says_of_its_weights(
    bright_blob_package: Path, tmp_path: Path
) -> None:
    shutil.copytree(bright_blob_package, tmp_path / "library" / "bright-blob")
    (tmp_path / "library" / "broken").mkdir()
    library = ModelLibrary([tmp_path / "library"])
    by_name = {one.name: one for one in verify_library(library)}
    assert (by_name["bright-blob"].is_sound, by_name["bright-blob"].compared) == (True, 1)
    assert not by_name["broken"].is_sound
    weights = read_package(tmp_path / "library" / "bright-blob").weights.path
    weights.write_bytes(weights.read_bytes()[::-1])
    assert not {one.name: one for one in verify_library(library)}["bright-blob"].is_sound


def test_a_removed_model_is_gone_with_its_note_and_can_be_added_again(an_offered_model: OfferedModel) -> None:
    folder = add_model(an_offered_model.name).folder
    assert (folder / RECORD).is_file()
    remove_model("bright-blob")
    assert installed() == []
    add_model(an_offered_model.name)


def test_a_model_that_is_in_use_may_be_removed(an_offered_model: OfferedModel) -> None:
    import torch

    package = add_model(an_offered_model.name)
    network = load_network(package)
    image = torch.zeros(1, 1, *package.window.size_ijk)
    with torch.no_grad():
        before = network(image)
        remove_model("bright-blob")
        assert torch.equal(network(image), before)
    with pytest.raises(ModelError, match="missing"):
        load_network(package)
