"""``medseg segment``: one volume or many, every output, and what happens when something is wrong."""

from __future__ import annotations

import csv
import errno
import locale
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from medseg import models, segmentation, volumes
from medseg.cli.cases import Case, find_cases, outputs_for
from medseg.errors import InputError
from medseg.metrics import dice

if TYPE_CHECKING:
    from collections.abc import Callable


def labels_of(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".medseg-")]


def test_a_volume_becomes_a_segmentation_a_table_and_a_picture(medseg, an_installed_model, a_blob_file, tmp_path):
    image, truth = a_blob_file("scan.nii.gz")
    output, table, picture = tmp_path / "out.seg.nrrd", tmp_path / "out.csv", tmp_path / "out.png"

    result = medseg(
        "segment", image, "--model", an_installed_model, "--output", output, "--statistics", table, "--preview", picture
    )

    assert result.exit_code == 0, result.output
    segmentation = sitk.ReadImage(str(output))
    labels = sitk.GetArrayFromImage(segmentation)
    assert dice(labels > 0, truth.array > 0) > 0.9
    assert segmentation.GetMetaData("Segment0_Name") == "bright blob"
    (row,) = rows_of(table)
    assert (row["input"], row["segment"], int(row["voxels"])) == ("scan", "bright blob", np.count_nonzero(labels))
    assert float(row["volume_ml"]) == pytest.approx(np.count_nonzero(labels) / 1000, rel=1e-5)
    assert picture.read_bytes().startswith(b"\x89PNG")
    for path in (output, table, picture):
        assert f"Written: {path}" in result.stdout
    assert "bright blob" in result.stdout
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_labelmap_lies_on_the_grid_of_its_input(medseg, bright_blob_package, a_blob_file, tmp_path, ending):
    image, truth = a_blob_file("scan.mha", orientation="PIR", spacing=(1.0, 0.9, 1.2), origin=(11.0, -7.0, 4.5))
    output = tmp_path / f"labels{ending}"

    result = medseg("segment", image, "--model", bright_blob_package, "--output", output, "--device", "cpu")

    assert result.exit_code == 0, result.output
    given_image, made = sitk.ReadImage(str(image)), sitk.ReadImage(str(output))
    assert made.GetSize() == given_image.GetSize()
    assert np.allclose(made.GetSpacing(), given_image.GetSpacing(), atol=1e-5)
    assert np.allclose(made.GetOrigin(), given_image.GetOrigin(), atol=1e-4)
    assert np.allclose(made.GetDirection(), given_image.GetDirection(), atol=1e-6)
    assert dice(sitk.GetArrayFromImage(made) > 0, truth.array > 0) > 0.85


def test_in_a_batch_a_broken_file_is_reported_and_the_others_are_done(
    medseg, an_installed_model, a_blob_file, tmp_path, monkeypatch
):
    first, _ = a_blob_file("in/first.nii.gz", seed=1)
    last, _ = a_blob_file("in/last.mha", seed=2)
    broken = tmp_path / "in" / "broken.nii.gz"
    broken.write_bytes(first.read_bytes()[:400])
    loaded, load = [], models.load_network
    monkeypatch.setattr(models, "load_network", lambda *arguments: loaded.append(arguments) or load(*arguments))
    table = tmp_path / "all.csv"

    result = medseg(
        "segment", first, broken, last, "-m", an_installed_model, "-o", tmp_path / "out", "--statistics", table
    )

    assert result.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first.seg.nrrd", "last.seg.nrrd"]
    assert "2 of 3 inputs segmented" in result.stdout
    assert str(broken) in result.stderr
    assert "Traceback" not in result.output
    assert [row["input"] for row in rows_of(table)] == ["first", "last"]
    assert len(loaded) == 1


def test_a_folder_of_studies_gives_one_output_each(medseg, an_installed_model, a_blob_file, tmp_path):
    a_blob_file("studies/one.nii.gz", seed=3)
    a_blob_file("studies/two.nrrd", seed=4)
    (tmp_path / "studies" / "notes.txt").write_text("not an image")

    result = medseg(
        "segment", tmp_path / "studies", "-m", an_installed_model, "-o", tmp_path / "{name}-labels.nii.gz",
        "--preview", tmp_path / "pictures",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert (tmp_path / "one-labels.nii.gz").is_file()
    assert (tmp_path / "two-labels.nii.gz").is_file()
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["one.png", "two.png"]


def test_a_dicom_folder_is_one_volume(medseg, an_installed_model, a_blob_file, tmp_path):
    source, truth = a_blob_file("scan.mha", seed=5, orientation="LPS")
    folder = tmp_path / "dicom"
    write_dicom(sitk.ReadImage(str(source)), folder)

    result = medseg("segment", folder, "-m", an_installed_model, "-o", tmp_path / "out.nii.gz")

    assert result.exit_code == 0, result.output
    assert dice(labels_of(tmp_path / "out.nii.gz") > 0, truth.array > 0) > 0.9


def write_dicom(image: sitk.Image, folder: Path) -> None:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        write_with_gdcm(image, folder)
    finally:
        # GDCM's writer leaves the process with the locale "C", in which Python opens text as ASCII.
        locale.setlocale(locale.LC_CTYPE, before)


def write_with_gdcm(image: sitk.Image, folder: Path) -> None:
    folder.mkdir()
    stored = sitk.Cast(image, sitk.sitkInt16)
    for k in range(image.GetSize()[2]):
        plane = stored[:, :, k]
        position = image.TransformIndexToPhysicalPoint((0, 0, k))
        for tag, value in {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.9.{k + 1}",
            "0008|0060": "MR",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.7",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.8",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            plane.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{k:03d}.dcm"))
        writer.Execute(plane)


def test_a_model_name_with_a_typing_error_brings_near_names(medseg, an_installed_model, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")

    result = medseg("segment", image, "--model", "brigth-blob", "--output", tmp_path / "out.seg.nrrd")

    assert result.exit_code == 1
    assert "bright-blob" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["a.nii.gz", "-o", "mesh.stl"], ".seg.nrrd"),
        (["a.nii.gz", "b.nii.gz", "-o", "one.seg.nrrd"], "{name}"),
        (["a.nii.gz", "-o", "x.seg.nrrd", "--preview", "x.jpg"], ".png"),
        (["a.nii.gz", "-o", "x.seg.nrrd", "--device", "toaster"], "toaster"),
        (["-o", "x.seg.nrrd"], "INPUT"),
    ],
)
def test_a_wrong_command_line_is_explained_with_exit_code_2(medseg, bright_blob_package, arguments, word):
    result = medseg("segment", *arguments, "--model", bright_blob_package)

    assert result.exit_code == 2
    assert word in result.stderr


def test_a_missing_input_is_one_sentence(medseg, an_installed_model, tmp_path):
    missing = tmp_path / "nothing.nii.gz"

    result = medseg("segment", missing, "-m", an_installed_model, "-o", tmp_path / "out.seg.nrrd")

    assert result.exit_code == 1
    assert str(missing) in result.stderr
    assert not list(tmp_path.glob("out*"))


def test_an_output_that_is_an_input_is_refused(medseg, an_installed_model, a_blob_file):
    image, _ = a_blob_file("scan.nii.gz")
    before = image.read_bytes()

    result = medseg("segment", image, "-m", an_installed_model, "-o", image)

    assert result.exit_code == 1
    assert "input and an output" in result.stderr
    assert image.read_bytes() == before


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def a_network_that_must_not_run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    calls: list[object] = []
    monkeypatch.setattr(models, "load_network", lambda *arguments: calls.append(arguments))
    return lambda: calls


def test_a_full_disk_is_noticed_before_the_network_runs(
    medseg, an_installed_model, a_blob_file, tmp_path, monkeypatch, a_network_that_must_not_run
):
    image, _ = a_blob_file("scan.nii.gz")
    output = tmp_path / "out.seg.nrrd"
    output.write_bytes(b"what stood there before")
    monkeypatch.setattr(os, "fsync", full_disk)

    result = medseg("segment", image, "-m", an_installed_model, "-o", output)

    assert result.exit_code == 1
    assert result.stderr.startswith("The disk is full")
    assert output.read_bytes() == b"what stood there before"
    assert not a_network_that_must_not_run()
    assert not leftovers(tmp_path)


def test_a_disk_that_fills_up_while_writing_leaves_what_stood_there(
    medseg, an_installed_model, a_blob_file, tmp_path, monkeypatch
):
    image, _ = a_blob_file("scan.nii.gz")
    output = tmp_path / "out.csv"
    output.write_bytes(b"what stood there before")
    monkeypatch.setattr(Path, "replace", full_disk)

    result = medseg("segment", image, "-m", an_installed_model, "-o", tmp_path / "o.seg.nrrd", "--statistics", output)

    assert result.exit_code == 1
    assert "disk is full" in result.stderr
    assert output.read_bytes() == b"what stood there before"
    assert not leftovers(tmp_path)


def test_a_folder_without_permission_is_noticed_before_the_network_runs(
    medseg, an_installed_model, a_blob_file, tmp_path, a_network_that_must_not_run
):
    image, _ = a_blob_file("scan.nii.gz")
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        folder = Path("/proc/self")  # the administrator may write everywhere but there
    result = medseg("segment", image, "-m", an_installed_model, "-o", folder / "out.seg.nrrd")

    assert result.exit_code == 1
    assert str(folder) in result.stderr
    assert not a_network_that_must_not_run()


def test_an_output_folder_that_does_not_exist_is_named(medseg, an_installed_model, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")

    result = medseg("segment", image, "-m", an_installed_model, "-o", tmp_path / "nowhere" / "out.seg.nrrd")

    assert result.exit_code == 1
    assert f"The folder {tmp_path / 'nowhere'} does not exist" in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_writes_nothing(medseg, an_installed_model, a_blob_file, tmp_path, monkeypatch, number, code):
    image, _ = a_blob_file("scan.nii.gz")
    output = tmp_path / "out.seg.nrrd"

    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(segmentation, "segment", interrupted)
    handler = signal.getsignal(number)

    result = medseg("segment", image, "-m", an_installed_model, "-o", output)

    assert result.exit_code == code
    assert "Cancelled." in result.stderr
    assert not output.exists()
    assert signal.getsignal(number) is handler


def test_an_interruption_while_a_file_is_written_waits_until_it_is_whole(
    medseg, an_installed_model, a_blob_file, tmp_path, monkeypatch
):
    image, _ = a_blob_file("scan.nii.gz")
    output = tmp_path / "out.nii.gz"
    write = volumes.write_labelmap

    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write(*arguments)

    monkeypatch.setattr(volumes, "write_labelmap", interrupted)

    result = medseg("segment", image, "-m", an_installed_model, "-o", output)

    assert result.exit_code == 130
    assert labels_of(output).any()
    assert not leftovers(tmp_path)


def test_a_defect_is_reported_in_a_sentence_and_a_file(
    medseg, an_installed_model, a_blob_file, tmp_path, monkeypatch, a_user_folder_of_its_own
):
    image, _ = a_blob_file("scan.nii.gz")

    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError("seven is not a number")

    monkeypatch.setattr(segmentation, "segment", defect)
    command = ("segment", image, "-m", an_installed_model, "-o", tmp_path / "out.seg.nrrd")

    result = medseg(*command)

    assert result.exit_code == 1
    (report,) = (a_user_folder_of_its_own / "reports").iterdir()
    assert str(report) in result.stderr
    assert "Traceback" not in result.stderr
    assert "seven is not a number" in report.read_text()
    assert "in defect" in report.read_text()
    assert "Traceback" in medseg(*command, "--debug").stderr


def test_inputs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    cases = find_cases([tmp_path / "a" / "scan.nii.gz", tmp_path / "b" / "scan.nii.gz"], 1)

    assert [case.name for case in cases] == ["a_scan", "b_scan"]


def test_one_input_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="scan"):
        find_cases([tmp_path / "scan.nii.gz"] * 2, 1)


def test_a_model_of_two_images_takes_two_inputs_as_one_case(tmp_path):
    paths = [tmp_path / "ct.nii.gz", tmp_path / "pet.nii.gz"]

    assert find_cases(paths, 2) == [Case("ct", tuple(paths))]
    with pytest.raises(InputError, match="2 images"):
        find_cases(paths[:1], 2)


@given(
    st.lists(st.text("ab.1 ", min_size=1, max_size=6).filter(lambda name: name.strip(". ")), min_size=2, unique=True)
)
def test_every_case_has_an_output_of_its_own(names):
    cases = [Case(name, (Path("/in") / name,)) for name in names]
    pattern = str(Path(tempfile.gettempdir()) / "{name}.seg.nrrd")

    paths = outputs_for("--output", pattern, cases, (".seg.nrrd",))

    assert len(set(paths)) == len(names)
