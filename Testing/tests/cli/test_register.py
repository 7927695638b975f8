"""``medseg register``: files in, a transform that SimpleITK reads, a volume, figures; mistakes are sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from medseg.cli import app
from medseg.labels import Code, Label, LabelTable
from medseg.metrics import dice
from medseg.registration import SpatialTransform, read_transform, write_transform
from medseg.segmentation.results import SegmentationResult
from medseg.segmentation.seg_nrrd import write_seg_nrrd
from medseg.segmentation.seg_nrrd_labels import segment_labels
from medseg.volumes import read_labelmap, read_volume, write_labelmap, write_volume
from support.registration import a_head, a_smooth_warp, a_turn, distance, inner_points, moved


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head and the head turned and shifted, with a segmentation of each and landmarks."""
    folder = tmp_path_factory.mktemp("pair")
    head, known = a_head(), a_turn(9, (8, -6, 5))
    labels = head.with_array((head.array > 0.25).astype(np.uint8))
    write_volume(head, folder / "fixed.nii.gz")
    write_volume(moved(head, known), folder / "moving.nii.gz")
    write_labelmap(labels, folder / "fixed_label.nii.gz")
    inverse = known.inverse(head.geometry)[0]
    write_labelmap(inverse.resample(labels, head.geometry, "nearest"), folder / "moving_label.nii.gz")
    points = inner_points(head.geometry)[:5]
    rows = [",".join(f"{value:.4f}" for value in (*a, *b)) for a, b in zip(points, known.apply(points), strict=True)]
    header = "fixed_r,fixed_a,fixed_s,moving_r,moving_a,moving_s"
    (folder / "points.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["register", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_transform_the_volume_and_the_figures_are_written(a_folder: Path, tmp_path: Path) -> None:
    code, said = run(
        a_folder / "fixed.nii.gz", a_folder / "moving.nii.gz", "--method", "rigid",
        "--output-transform", tmp_path / "t.h5", "--output-inverse", tmp_path / "i.tfm",
        "--output-volume", tmp_path / "w.nrrd", "--report", tmp_path / "r.json",
        "--fixed-labels", a_folder / "fixed_label.nii.gz", "--moving-labels", a_folder / "moving_label.nii.gz",
    )  # fmt: skip
    assert code == 0, said
    known, geometry = a_turn(9, (8, -6, 5)), read_volume(a_folder / "fixed.nii.gz").geometry
    found = read_transform(tmp_path / "t.h5")
    assert distance(found, known, geometry) < 0.5
    assert distance(found.then(read_transform(tmp_path / "i.tfm")), SpatialTransform(), geometry) < 1e-3
    point = sitk.ReadTransform(str(tmp_path / "t.h5")).TransformPoint((-10.0, -20.0, 30.0))
    np.testing.assert_allclose(np.array(point) * [-1, -1, 1], found.apply([10.0, 20.0, 30.0]), atol=1e-3)
    assert read_volume(tmp_path / "w.nrrd").geometry.is_close(geometry)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["quality"]["correlation_after"] > report["quality"]["correlation_before"]
    assert report["quality"]["labels"]["1"]["dice_after"] > 0.95
    for words in ("Mean Dice", "The inverse is right to", "Written:"):
        assert words in said


def test_landmarks_or_a_transform_are_where_it_begins(a_folder: Path, tmp_path: Path) -> None:
    code, said = run(
        a_folder / "fixed.nii.gz", a_folder / "moving.nii.gz", "--method", "rigid",
        "--landmarks", a_folder / "points.csv", "--report", tmp_path / "r.json",
    )  # fmt: skip
    assert code == 0, said
    assert "Landmarks" in said
    assert max(json.loads((tmp_path / "r.json").read_text())["quality"]["landmark_errors_after_mm"]) < 1
    write_transform(a_turn(0, (900, 0, 0)), tmp_path / "far.tfm")
    code, said = run(
        a_folder / "fixed.nii.gz", a_folder / "moving.nii.gz", "--initial-transform", tmp_path / "far.tfm",
        "--output-transform", tmp_path / "t.h5",
    )  # fmt: skip
    assert code == 1
    assert "do not overlap" in said
    assert not (tmp_path / "t.h5").exists()


def test_a_deformable_registration_writes_a_field(a_folder: Path, tmp_path: Path) -> None:
    head = read_volume(a_folder / "fixed.nii.gz")
    write_volume(moved(head, a_smooth_warp(head.geometry)), tmp_path / "moving.nii.gz")
    code, said = run(
        a_folder / "fixed.nii.gz", tmp_path / "moving.nii.gz", "--method", "field", "--spacing", 8, "--device", "cpu",
        "--output-transform", tmp_path / "field.nrrd",
    )  # fmt: skip
    assert code == 0, said
    assert "Folded voxels" in said
    known = a_smooth_warp(head.geometry)
    before = distance(SpatialTransform(), known, head.geometry)
    assert distance(read_transform(tmp_path / "field.nrrd"), known, head.geometry) < 0.6 * before


def test_maps_and_a_picture_are_written_and_the_report_is_complete(a_folder: Path, tmp_path: Path) -> None:
    head = read_volume(a_folder / "fixed.nii.gz")
    write_volume(moved(head, a_smooth_warp(head.geometry)), tmp_path / "moving.nii.gz")
    code, said = run(
        a_folder / "fixed.nii.gz", tmp_path / "moving.nii.gz", "--method", "field", "--spacing", 8,
        "--regulariser", "bending", "--similarity", "lncc", "--smoothness", 0.1, "--device", "cpu",
        "--landmarks", a_folder / "points.csv", "--landmarks-measure-only",
        "--output-jacobian", tmp_path / "j.nii.gz", "--output-checkerboard", tmp_path / "c.nrrd",
        "--output-difference", tmp_path / "d.mha", "--output-inverse", tmp_path / "i.h5",
        "--preview", tmp_path / "p.png", "--report", tmp_path / "r.json",
    )  # fmt: skip
    assert code == 0, said
    jacobian, board, apart = (read_volume(tmp_path / name) for name in ("j.nii.gz", "c.nrrd", "d.mha"))
    for volume in (jacobian, board, apart):
        assert volume.geometry.is_close(head.geometry)
    assert 0.05 < jacobian.array.std() < 1
    assert (board.array.min(), board.array.max()) == (0, 1)
    assert -0.9 < apart.array.min() < -0.1
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "r.json").read_text())
    assert {name: report["settings"][name] for name in ("regulariser", "similarity", "smoothness", "spacing")} == {
        "regulariser": "bending", "similarity": "lncc", "smoothness": 0.1, "spacing": 8.0,
    }  # fmt: skip
    assert 0 <= report["quality"]["deformation"]["folded_share"] < 0.05
    assert report["quality"]["deformation"]["non_diffeomorphic_volume"] >= 0
    assert report["quality"]["landmarks_after"]["count"] == 5
    assert 0 < report["inverse_consistency"]["mean_mm"] < 1
    assert report["quality"]["inverse_error_mm"] > report["inverse_consistency"]["mean_mm"]
    assert report["losses"][-1] < report["losses"][0]


def test_labels_of_the_moving_volume_come_along_with_their_names(a_folder: Path, tmp_path: Path) -> None:
    labels = read_labelmap(a_folder / "moving_label.nii.gz").astype(np.uint8)
    tissue = Code("SCT", "85756007", "Tissue")
    names = LabelTable([Label(1, "Bright part", (10, 200, 30), tissue, tissue)])
    write_seg_nrrd(SegmentationResult(labels, names), tmp_path / "moving.seg.nrrd")
    pair = (a_folder / "fixed.nii.gz", a_folder / "moving.nii.gz", "--method", "rigid")
    for given, wanted in ((tmp_path / "moving.seg.nrrd", "out.seg.nrrd"), (a_folder / "moving_label.nii.gz", "o.nrrd")):
        code, said = run(*pair, "--moving-labels", given, "--output-labels", tmp_path / wanted)
        assert code == 0, said
        found, truth = read_labelmap(tmp_path / wanted), read_labelmap(a_folder / "fixed_label.nii.gz")
        assert found.geometry.is_close(truth.geometry)
        assert dice(found.array == 1, truth.array == 1) > 0.95
    assert segment_labels(tmp_path / "out.seg.nrrd").names == ("Bright part",)
    code, said = run(
        *pair, "--moving-labels", a_folder / "moving_label.nii.gz", "--output-labels", tmp_path / "p.seg.nrrd"
    )
    assert code == 0, said
    assert segment_labels(tmp_path / "p.seg.nrrd").names == ("Label 1",)


def test_a_folder_holds_outputs_that_are_called_after_the_moving_volume(a_folder: Path, tmp_path: Path) -> None:
    code, said = run(
        a_folder / "fixed.nii.gz", a_folder / "moving.nii.gz", "--method", "rigid",
        "--output-transform", tmp_path, "--report", tmp_path,
    )  # fmt: skip
    assert code == 0, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moving.h5", "moving.json"]


def test_a_closing_slash_says_that_a_folder_is_to_be_made(a_folder: Path, tmp_path: Path) -> None:
    code, said = run(
        a_folder / "fixed.nii.gz", a_folder / "moving.nii.gz", "--method", "rigid",
        "--output-transform", f"{tmp_path}/new/", "--report", f"{tmp_path}/new/",
    )  # fmt: skip
    assert code == 0, said
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["moving.h5", "moving.json"]


def test_the_transform_to_begin_with_is_not_overwritten(a_folder: Path, tmp_path: Path) -> None:
    begin = tmp_path / "begin.tfm"
    write_transform(SpatialTransform((np.eye(4),)), begin)
    before = begin.read_bytes()
    code, said = run(
        a_folder / "fixed.nii.gz", a_folder / "moving.nii.gz", "--method", "rigid",
        "--initial-transform", begin, "--output-transform", begin,
    )  # fmt: skip
    assert code == 1
    assert "both an input and an output" in said
    assert begin.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing would be kept"),
        (("--output-labels", "{out}/l.nii.gz"), "needs --moving-labels"),
        (("--output-jacobian", "{out}/j.nii.gz"), "A linear method does not deform"),
        (("--output-volume", "{out}/w.png"), "must end with .nii.gz"),
        (("--output-volume", "{pair}/fixed.nii.gz"), "both an input and an output"),
        (("--output-volume", "{out}/a.nrrd", "--output-checkerboard", "{out}/a.nrrd"), "Two outputs have one name"),
        (("--preview", "{out}/p.jpg"), "must end with .png"),
        (("--method", "field", "--output-transform", "{out}/t.txt"), "holds linear transforms only"),
        (("--method", "field", "--refine", "none", "--report", "{out}/r.json"), "no trained weights"),
        (("--method", "field", "--spacing", "0", "--report", "{out}/r.json"), "positive number of mm"),
        (("--method", "field", "--spacing", "1000", "--report", "{out}/r.json"), "too thin to be deformed"),
        (("--method", "field", "--spacing", "0.01", "--report", "{out}/r.json"), "more than memory holds"),
        (("--seed", "-2", "--report", "{out}/r.json"), "The seed is -2"),
        (("--method", "rigid", "--model", "x", "--report", "{out}/r.json"), "takes no model"),
        (("--model", "{out}/none", "--report", "{out}/r.json"), "none"),
        (("--output-transform", "{out}/t.xyz"), "does not end as a transform does"),
        (("--output-transform", "{out}/t.h5", "--landmarks", "{pair}/fixed.nii.gz"), "not a table of landmarks"),
        (("--output-transform", "{out}/t.h5", "--landmarks", "{out}/bad.csv"), "not a table of landmarks"),
        (("--output-transform", "{out}/t.h5", "--initial-transform", "{out}/none.h5"), "There is no file"),
        (("--output-volume", "{out}/none/w.nrrd"), "does not exist"),
        (("--report", "{out}/r.json", "--fixed-labels", "{pair}/fixed.nii.gz"), "compared with --moving-labels"),
        (
            ("--report", "{out}/r.json", "--initial-transform", "{out}/t.tfm", "--landmarks", "{pair}/points.csv"),
            "--landmarks-measure-only",
        ),
    ],
)
def test_mistakes_are_sentences(a_folder: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    given = [text.format(out=tmp_path, pair=a_folder) for text in arguments]
    code, said = run(a_folder / "fixed.nii.gz", a_folder / "moving.nii.gz", *given)
    assert code in (1, 2)
    assert words in " ".join(said.replace("│", " ").split())
    assert "should not have" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"bad.csv"}
