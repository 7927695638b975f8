"""Models from a zip file: whole or not at all, and never beyond their folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from medseg.errors import Cancelled, ModelError, WriteError
from medseg.models import ModelLibrary, archive, import_zip, load_network
from medseg.progress import Progress


def zip_of(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.fixture
def an_empty_library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary([tmp_path / "library"])


@pytest.mark.parametrize("prefix", ["", "bright-blob-1.0/"])
def test_a_zipped_model_can_be_used_after_its_import(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path, prefix: str
) -> None:
    package = import_zip(zip_of(bright_blob_package, tmp_path / "m.zip", prefix), an_empty_library)
    assert package.folder == an_empty_library.paths[0] / "bright-blob"
    assert an_empty_library.find("bright-blob") == package
    load_network(package)
    assert [item.name for item in an_empty_library.paths[0].iterdir()] == ["bright-blob"]


def test_a_model_of_the_same_name_is_replaced_only_when_asked(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    path = zip_of(bright_blob_package, tmp_path / "m.zip")
    folder = import_zip(path, an_empty_library).folder
    (folder / "mark").write_text("first")
    with pytest.raises(WriteError, match="already"):
        import_zip(path, an_empty_library)
    assert (folder / "mark").exists()
    import_zip(path, an_empty_library, overwrite=True)
    assert not (folder / "mark").exists()


def test_without_a_library_the_model_goes_to_the_users_folder(
    bright_blob_package: Path, tmp_path: Path, a_user_folder_of_its_own: Path
) -> None:
    package = import_zip(zip_of(bright_blob_package, tmp_path / "m.zip"))
    assert package.folder == a_user_folder_of_its_own / "models" / "bright-blob"


def test_a_cancelled_import_leaves_nothing_behind(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    path = zip_of(bright_blob_package, tmp_path / "m.zip")
    with pytest.raises(Cancelled):
        import_zip(path, an_empty_library, progress=Progress(cancelled=lambda: True))
    assert list(an_empty_library.paths[0].iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/evil.txt", "configs/../../evil.txt", "C:\\evil.txt", "a\\..\\..\\evil.txt"]
)
def test_members_that_leave_the_folder_are_refused(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path, name: str
) -> None:
    path = zip_of(bright_blob_package, tmp_path / "m.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "evil")
    with pytest.raises(ModelError, match="evil"):
        import_zip(path, an_empty_library)
    assert not list(tmp_path.rglob("evil*"))
    assert list(an_empty_library.paths[0].iterdir()) == []


def test_links_are_refused(bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path) -> None:
    path = zip_of(bright_blob_package, tmp_path / "m.zip")
    link = zipfile.ZipInfo("docs/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="link"):
        import_zip(path, an_empty_library)


def test_a_bomb_is_refused_before_it_unfolds(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    path = zip_of(bright_blob_package, tmp_path / "m.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("docs/zeros", bytes(300 << 20))
    with pytest.raises(ModelError, match="unfold"):
        import_zip(path, an_empty_library)


def test_a_member_that_is_larger_than_it_says_is_stopped(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    path = zip_of(bright_blob_package, tmp_path / "m.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("docs/zeros", bytes(1 << 20))
    content = bytearray(path.read_bytes())
    size = (1 << 20).to_bytes(4, "little")
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, (1 << 10).to_bytes(4, "little")))
    with pytest.raises(ModelError):
        import_zip(path, an_empty_library)
    assert list(an_empty_library.paths[0].iterdir()) == []


def test_what_is_no_zip_of_one_model_is_refused(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no zip file"):
        import_zip(tmp_path / "missing.zip", an_empty_library)
    with pytest.raises(ModelError, match="no zip file"):
        import_zip(tmp_path, an_empty_library)
    good = zip_of(bright_blob_package, tmp_path / "m.zip", "a/")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(good.read_bytes()[:-300])
    with pytest.raises(ModelError, match="no usable zip"):
        import_zip(cut, an_empty_library)
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr("beside.txt", "x")
    with pytest.raises(ModelError, match="beside"):
        import_zip(good, an_empty_library)
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr("b/configs/metadata.json", "{}")
    with pytest.raises(ModelError, match="one model"):
        import_zip(good, an_empty_library)


def test_weights_that_do_not_match_their_hash_are_not_installed(
    a_package: object, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    content = bytearray(a_package.weights.read_bytes())
    content[100] ^= 1
    a_package.weights.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        import_zip(zip_of(a_package.folder, tmp_path / "m.zip"), an_empty_library)
    assert an_empty_library.packages() == []


@pytest.mark.parametrize(
    ("trained", "top"),
    [
        (["Dataset1_A/t__p__2d/"], "Dataset1_A/"),
        (["Dataset1_A/t__p__3d_lowres/", "Dataset1_A/t__p__3d_cascade_fullres/"], "Dataset1_A/"),
        (["t__p__2d/"], ""),
        ([""], ""),
    ],
)
def test_a_results_folder_of_nnunet_is_found_with_all_its_trainings(trained: list[str], top: str) -> None:
    names = [folder + name for folder in trained for name in ("plans.json", "dataset.json", "fold_0/a.pth")]
    assert archive._results_folders(names) == [top]
    assert archive._results_folders([name for name in names if "dataset" not in name]) == []


def test_what_macos_adds_to_an_archive_does_not_count(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    path = zip_of(bright_blob_package, tmp_path / "m.zip", "bright-blob/")
    with zipfile.ZipFile(path, "a") as content:
        content.writestr("__MACOSX/bright-blob/._labels.csv", "x")
        content.writestr("bright-blob/.DS_Store", "x")
    folder = import_zip(path, an_empty_library).folder
    assert not (folder / ".DS_Store").exists()


def test_too_little_space_is_told_before_anything_is_unpacked(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_of(bright_blob_package, tmp_path / "m.zip")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(WriteError, match="only 0 MB left"):
        import_zip(path, an_empty_library)
    assert list(an_empty_library.paths[0].iterdir()) == []
