"""``medseg correct``: one segment follows the prompts; everything else in the file is what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.correction.pipeline import TOOLS
from medseg.labels import Code, Label, LabelTable, write_labels
from medseg.labels.codes import ANATOMICAL_STRUCTURE, LEFT
from medseg.models import read_package
from medseg.segmentation.results import SegmentationResult
from medseg.segmentation.seg_nrrd import write_layer, write_seg_nrrd
from medseg.segmentation.seg_nrrd_labels import header_pairs, segment_labels
from medseg.volumes import Geometry, Volume, read_labelmap, write_labelmap, write_volume
from support.correction import write_clicks_package

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

    Correct = Callable[..., Result]

GRID = Geometry.from_spacing((40, 36, 32), (2.0, 2.0, 2.0), (30.0, 20.0, -10.0), "LPS")
KIDNEY = Label(1, "Left kidney", (200, 150, 90), ANATOMICAL_STRUCTURE, Code("SCT", "64033007", "Kidney"), LEFT)
LIVER = Label(4, "Liver", (120, 20, 60), ANATOMICAL_STRUCTURE, Code("SCT", "10200004", "Liver"))
DRAWN_BY = {"name": "abdomen-ct", "version": "2.1.0", "weights_sha256": "ab" * 32}
INSIDE, BESIDE, IN_LIVER = (20, 18, 10), (20, 18, 4), (20, 18, 18)
"""Voxels (k, j, i) in the kidney, in nothing, and in the liver beside it."""


def truth() -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[14:26, 12:24, 7:14], array[14:26, 12:24, 15:22] = 1, 4
    return array


def place(voxel: tuple[int, int, int]) -> list[float]:
    return GRID.ijk_to_ras_points(np.array([voxel[::-1]], float))[0].tolist()


def point(voxel: tuple[int, int, int], *, positive: bool = True) -> dict[str, Any]:
    return {"type": "point", "ras": place(voxel), "positive": positive}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that nobody trained: its answers are noise, so whatever may change does."""
    return write_clicks_package(tmp_path_factory.mktemp("models") / "clicks")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 5, GRID.shape)
    write_volume(Volume((truth() * 40 + noise).astype(np.float32), GRID), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A segmentation that a model drew."""
    result = SegmentationResult(Volume(truth(), GRID), LabelTable([KIDNEY, LIVER]), model=DRAWN_BY)
    write_seg_nrrd(result, tmp_path / "drawn.seg.nrrd")
    return tmp_path / "drawn.seg.nrrd"


@pytest.fixture
def correct(medseg: Callable[..., Result], scan: Path, model: Path, tmp_path: Path) -> Correct:
    """Run the command on the scan with these prompts; the region is small."""

    def run(prompts: Any, *arguments: Any, output: str = "out.seg.nrrd", segment: Any = "Left kidney") -> Result:
        path = tmp_path / "prompts.json"
        path.write_text(prompts if isinstance(prompts, str) else json.dumps(prompts))
        return medseg(
            "correct", scan, *arguments, "--segment", segment, "--prompts", path, "--output", tmp_path / output,
            "--model", model, "--region", 24, "--device", "cpu",
        )  # fmt: skip

    return run


def box_of(report: Path) -> np.ndarray:
    """Return which voxel centres (k, j, i) lie in the box that a report names."""
    box = json.loads(report.read_text())["region_ras_mm"]
    index = np.argwhere(np.ones(GRID.shape, bool))
    centres = GRID.ijk_to_ras_points(index[:, ::-1].astype(float))
    return ((centres > box["low"]) & (centres < box["high"])).all(1).reshape(GRID.shape)


@pytest.mark.parametrize("ending", ["seg.nrrd", "nii.gz"])
def test_nothing_changes_outside_of_the_reported_box_and_no_other_segment_does(
    correct: Correct, drawn: Path, tmp_path: Path, ending: str
) -> None:
    source, output, report = drawn, tmp_path / f"out.{ending}", tmp_path / "r.json"
    if ending == "nii.gz":
        source = tmp_path / "drawn.nii.gz"
        write_labelmap(Volume(truth(), GRID), source)
    segment = "left KIDNEY" if ending == "seg.nrrd" else 1
    entries = [point(BESIDE), point(INSIDE, positive=False)]
    result = correct(entries, source, "--report", report, output=output.name, segment=segment)
    assert result.exit_code == 0, result.output
    after, inside = read_labelmap(output).array, box_of(report)
    assert 0 < inside.sum() < inside.size
    assert np.array_equal(after[~inside], truth()[~inside])
    assert np.array_equal(after == LIVER.value, truth() == LIVER.value)
    assert set(np.unique(after)) == {0, 1, 4}
    assert read_labelmap(output).geometry.is_close(GRID)
    told = json.loads(report.read_text())
    assert told["voxels"]["before"] == np.count_nonzero(truth() == 1)
    assert told["voxels"]["after"] == np.count_nonzero(after == 1)
    assert told["voxels"]["added"] == np.count_nonzero((after == 1) & (truth() != 1)) > 0
    assert told["voxels"]["removed"] == np.count_nonzero((after != 1) & (truth() == 1)) > 0
    assert f"{told['voxels']['added']} voxels added, {told['voxels']['removed']} removed" in result.output
    low, high = told["region_ras_mm"]["low"], told["region_ras_mm"]["high"]
    assert f"R {low[0]:.1f} to {high[0]:.1f}, A {low[1]:.1f}" in result.output


def test_the_report_says_by_what_it_was_made(correct: Correct, drawn: Path, model: Path, tmp_path: Path) -> None:
    result = correct([point(INSIDE), point(BESIDE, positive=False)], drawn, "--report", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["model"]["name"] == "any-structure"
    assert told["model"]["weights_sha256"] == read_package(model).weights_sha256
    assert (told["tool"], told["prompts"], told["taken"]) == ("network", 2, {})
    assert told["segment"] == {"name": "Left kidney", "value": 1, "new": False}
    assert told["seconds"] > 0


def test_the_later_of_two_prompts_that_contradict_each_other_wins(
    correct: Correct, drawn: Path, tmp_path: Path
) -> None:
    said = {"type": "scribble", "ras": [place(INSIDE), place(BESIDE)], "positive": True}
    for entries, voxel, expected in (
        ([said, point(BESIDE, positive=False)], BESIDE, 0),
        ([point(BESIDE, positive=False), said], BESIDE, 1),
        ([said, point(INSIDE, positive=False)], INSIDE, 0),
    ):
        assert correct(entries, drawn).exit_code == 0
        assert read_labelmap(tmp_path / "out.seg.nrrd").array[voxel] == expected


def test_a_box_and_a_lasso_are_followed(correct: Correct, drawn: Path, tmp_path: Path) -> None:
    lasso = {"type": "lasso", "ras": [place((20, 13, 2)), place((20, 13, 5)), place((20, 16, 4))]}
    assert correct([lasso], drawn).exit_code == 0
    assert read_labelmap(tmp_path / "out.seg.nrrd").array[20, 14, 4] == KIDNEY.value
    nowhere = {"type": "box", "ras": [place((18, 14, 9)), place((22, 20, 12))], "positive": False}
    assert correct([nowhere], drawn).exit_code == 0
    assert not read_labelmap(tmp_path / "out.seg.nrrd").array[18:22, 14:20, 9:12].any()


# --- what a segmentation says of its segments


def test_names_colours_and_codes_of_all_segments_are_kept(correct: Correct, drawn: Path, tmp_path: Path) -> None:
    assert correct([point(INSIDE)], drawn).exit_code == 0
    assert tuple(segment_labels(tmp_path / "out.seg.nrrd")) == tuple(segment_labels(drawn))


def test_only_the_corrected_segment_is_marked_as_semiautomatic(correct: Correct, drawn: Path, tmp_path: Path) -> None:
    assert correct([point(INSIDE)], drawn).exit_code == 0
    before, after = header_pairs(drawn), header_pairs(tmp_path / "out.seg.nrrd")
    assert after["Segment1_Tags"] == before["Segment1_Tags"]
    tags = dict(tag.split(":", 1) for tag in after["Segment0_Tags"].split("|") if tag)
    assert tags["DICOM.SegmentAlgorithmType"] == "SEMIAUTOMATIC"
    assert tags["DICOM.SegmentAlgorithmName"] == "MedSeg any-structure 0.1.0"
    assert tags["MedSeg.Model"] == "any-structure"
    assert tags["MedSeg.EditedFrom"] == "MedSeg abdomen-ct 2.1.0"
    assert correct([point(INSIDE)], tmp_path / "out.seg.nrrd", output="again.seg.nrrd").exit_code == 0
    assert "MedSeg.EditedFrom:MedSeg abdomen-ct 2.1.0|" in header_pairs(tmp_path / "again.seg.nrrd")["Segment0_Tags"]


def test_what_medseg_does_not_know_in_a_header_is_handed_on(correct: Correct, drawn: Path, tmp_path: Path) -> None:
    pairs = header_pairs(drawn)
    pairs |= {"Segment1_ID": "Segment_7", "Segment1_Note": "a\nb \\ c", "Site": "Übersee", "Segment2_ID": "Left_lung"}
    pairs |= {"Segment2_Name": "Left lung", "Segment2_LabelValue": "9", "Segment2_Color": "0 1 0"}
    write_layer(Volume(truth(), GRID), pairs.items(), tmp_path / "theirs.seg.nrrd")
    assert correct([point(INSIDE)], tmp_path / "theirs.seg.nrrd").exit_code == 0
    after = header_pairs(tmp_path / "out.seg.nrrd")
    changed = {"Segment0_Tags", "Segment2_Layer", "Segment2_Extent"}
    assert {key: text for key, text in after.items() if key not in changed} == {
        key: text for key, text in pairs.items() if key not in changed
    }
    assert after["Segment2_Extent"] == "0 31 0 35 0 39"


def test_slicer_opens_what_it_wrote_itself_and_was_corrected(correct: Correct, drawn: Path, tmp_path: Path) -> None:
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    scene, node, storage = slicer.vtkMRMLScene(), slicer.vtkMRMLSegmentationNode(), None
    scene.AddNode(node)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(drawn))
    assert storage.ReadData(node)
    node.GetSegmentation().AddEmptySegment("todo", "To do")
    storage.SetFileName(str(tmp_path / "slicer.seg.nrrd"))
    storage.SetCropToMinimumExtent(True)
    assert storage.WriteData(node)
    assert read_labelmap(tmp_path / "slicer.seg.nrrd").shape == (12, 12, 15)
    result = correct([point(INSIDE)], tmp_path / "slicer.seg.nrrd")
    assert result.exit_code == 0, result.output
    assert "covers a part of the volume" in result.output
    back = slicer.vtkMRMLSegmentationNode()
    scene.AddNode(back)
    storage.SetFileName(str(tmp_path / "out.seg.nrrd"))
    assert storage.ReadData(back)
    segmentation = back.GetSegmentation()
    assert list(segmentation.GetSegmentIDs()) == ["Left_kidney", "Liver", "todo"]
    liver = segmentation.GetSegment("Liver").GetRepresentation("Binary labelmap")
    assert liver.GetDimensions() == GRID.size
    assert liver.GetScalarComponentAsDouble(*IN_LIVER[::-1], 0) == LIVER.value
    del scene


def test_a_labelmap_becomes_a_segmentation_with_the_names_of_a_table(correct: Correct, tmp_path: Path) -> None:
    absent = Label(9, "Spleen", (1, 2, 3), LIVER.category, LIVER.type)
    write_labels(LabelTable([KIDNEY, LIVER, absent]), tmp_path / "labels.csv")
    write_labelmap(Volume(truth(), GRID), tmp_path / "drawn.nii.gz")
    given = (tmp_path / "drawn.nii.gz", "--labels", tmp_path / "labels.csv")
    assert correct([point(INSIDE)], *given).exit_code == 0
    assert tuple(segment_labels(tmp_path / "out.seg.nrrd")) == (KIDNEY, LIVER)
    assert "AUTOMATIC" not in header_pairs(tmp_path / "out.seg.nrrd")["Segment1_Tags"]
    # It is known, so it may be begun from nothing without further ado.
    assert correct([point(BESIDE)], *given, segment="Spleen").exit_code == 0
    assert tuple(segment_labels(tmp_path / "out.seg.nrrd")) == (KIDNEY, LIVER, absent)
    assert read_labelmap(tmp_path / "out.seg.nrrd").array[BESIDE] == 9


# --- new segments, and other ones


def test_without_a_segmentation_the_segment_is_drawn_from_nothing(correct: Correct, tmp_path: Path) -> None:
    result = correct([point(INSIDE)], segment="Lesion")
    assert result.exit_code == 0, result.output
    assert segment_labels(tmp_path / "out.seg.nrrd").names == ("Lesion",)
    assert read_labelmap(tmp_path / "out.seg.nrrd").array[INSIDE] == 1
    assert correct([point(INSIDE)], output="out.nii.gz", segment=7).exit_code == 0
    assert set(np.unique(read_labelmap(tmp_path / "out.nii.gz").array)) == {0, 7}


def test_a_new_segment_is_put_beside_the_others(correct: Correct, drawn: Path, tmp_path: Path) -> None:
    refused = correct([point(BESIDE)], drawn, segment="Lesion")
    assert refused.exit_code == 1
    assert "There is no segment 'Lesion'. The segments are: Left kidney, Liver. Add --new" in refused.output
    result = correct([point(BESIDE)], drawn, "--new", segment="Lesion")
    assert result.exit_code == 0, result.output
    found = segment_labels(tmp_path / "out.seg.nrrd")
    assert (found.names, found.values) == (("Left kidney", "Liver", "Lesion"), (1, 4, 5))
    after = read_labelmap(tmp_path / "out.seg.nrrd").array
    assert after[BESIDE] == 5
    assert np.array_equal(np.where(after == 5, 0, after), truth())
    again = correct([point(BESIDE)], drawn, "--new", segment="liver")
    assert "There is a segment 'Liver' already." in again.output


def test_the_voxels_of_others_are_taken_when_that_is_allowed(correct: Correct, drawn: Path, tmp_path: Path) -> None:
    entries = [point(INSIDE), point(IN_LIVER)]
    refused = correct(entries, drawn)
    assert refused.exit_code == 1
    assert "Prompt 2, a point, lies in the segment 'Liver', which is not to change." in refused.output
    result = correct(entries, drawn, "--overwrite-others", "--report", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    after = read_labelmap(tmp_path / "out.seg.nrrd").array
    assert after[IN_LIVER] == KIDNEY.value
    lost = np.count_nonzero(truth() == 4) - np.count_nonzero(after == 4)
    assert json.loads((tmp_path / "r.json").read_text())["taken"] == {"Liver": lost}
    assert f"'Liver' lost {lost} voxels" in result.output
    # It gains none.
    assert (truth()[after == 4] == 4).all()


# --- grids


def test_a_segmentation_of_a_part_or_with_turned_axes_is_put_in_its_place(correct: Correct, tmp_path: Path) -> None:
    part = Volume(truth(), GRID).crop((10, 9, 5), (30, 30, 25)).reorient("SAR")
    write_labelmap(part, tmp_path / "part.nrrd")
    report = tmp_path / "r.json"
    result = correct([point(INSIDE)], tmp_path / "part.nrrd", "--report", report, output="out.nrrd", segment=1)
    assert result.exit_code == 0, result.output
    after, inside = read_labelmap(tmp_path / "out.nrrd"), box_of(report)
    assert after.geometry.is_close(GRID)
    assert np.array_equal(after.array[~inside], truth()[~inside])
    assert np.array_equal(after.array == 4, truth() == 4)


def test_a_segmentation_of_other_voxels_is_refused(correct: Correct, tmp_path: Path) -> None:
    moved = Geometry.from_spacing(GRID.shape, (2.0, 2.0, 2.0), (31.0, 20.0, -10.0), "LPS")
    larger = Volume(truth(), GRID).pad((0, 0, 1), (0, 0, 0))
    for labelmap in (Volume(truth(), moved), larger):
        write_labelmap(labelmap, tmp_path / "other.nii.gz")
        result = correct([point(INSIDE)], tmp_path / "other.nii.gz", segment=1)
        assert result.exit_code == 1
        assert "are not those of" in result.output
        assert "Give the volume that it was drawn on." in result.output


def test_segments_that_overlap_are_refused(correct: Correct, drawn: Path, tmp_path: Path) -> None:
    pairs = {**header_pairs(drawn), "Segment1_Layer": "1"}
    write_layer(Volume(truth(), GRID), pairs.items(), tmp_path / "layers.seg.nrrd")
    result = correct([point(INSIDE)], tmp_path / "layers.seg.nrrd")
    assert result.exit_code == 1
    assert "overlap" in result.output


# --- what cannot be


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ("[]", "There is no prompt in"),
        ('[{"type": "point"', "is not a list of prompts in JSON"),
        ('{"type": "point", "ras": [0, 0, 0]}', "The prompts are not a list."),
        ([point(INSIDE), {"type": "blob", "ras": [1, 2, 3]}], "Prompt 2 cannot be used: There is no prompt 'blob'."),
        ([point(INSIDE), point((20, 18, 50))], "Prompt 2, a point, lies outside of the volume. Give R, A, S in mm; "),
    ],
)
def test_prompts_that_cannot_be_followed_are_told_by_number(
    correct: Correct, drawn: Path, tmp_path: Path, prompts: Any, words: str
) -> None:
    (tmp_path / "out.seg.nrrd").write_text("of yesterday")
    result = correct(prompts, drawn)
    assert result.exit_code == 1
    assert words in result.output
    assert (tmp_path / "out.seg.nrrd").read_text() == "of yesterday"


def test_no_input_is_overwritten(correct: Correct, drawn: Path) -> None:
    before = drawn.read_bytes()
    result = correct([point(INSIDE)], drawn, output=drawn.name)
    assert result.exit_code == 1
    assert "is both an input and an output" in result.output
    assert drawn.read_bytes() == before


def test_a_model_is_needed_and_must_follow_clicks(
    medseg: Callable[..., Result], scan: Path, drawn: Path, tmp_path: Path, an_installed_model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "p.json").write_text(json.dumps([point(INSIDE)]))
    line = ("correct", scan, drawn, "-s", "Liver", "-p", tmp_path / "p.json", "-o", tmp_path / "out.seg.nrrd")
    wrong = medseg(*line, "--model", an_installed_model)
    assert wrong.exit_code == 1
    assert "is there to segment and cannot correct" in wrong.output
    monkeypatch.setattr("medseg.models.ModelLibrary.packages", lambda *_: [])
    none = medseg(*line)
    assert none.exit_code == 1
    assert "No model that follows clicks is installed." in none.output
    unknown = medseg(*line, "--tool", "magic")
    assert unknown.exit_code == 1
    assert f"Choose one of {', '.join(TOOLS)}." in unknown.output
    small = medseg(*line, "--region", 1)
    assert "The region in which voxels may change is 1.0." in small.output
