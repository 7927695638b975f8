"""The page on a run, and exporting one that is there."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.errors import Cancelled, TrainingError
from medseg.models import load_network, read_package
from medseg.preview.comparison import write_comparison
from medseg.progress import Progress
from medseg.training import export_run, recording, run_training
from medseg.training.run_files import read_progress, read_state
from medseg.volumes import Geometry, Volume
from support.segmentation import label_table


def pictures_in(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)\"", page)]


class Open(HTMLParser):
    """Follows which elements are open; every one must be closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.usefixtures("a_real_report")
def test_a_finished_run_has_a_page_of_its_own(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["package"].update(title="Blobs <1>", picture=True)
    output = tmp_path / "out"
    result = run_training(
        write_recipe(a_small_recipe), a_training_folder, output, device="cpu", export=tmp_path / "blobs.zip"
    )
    assert result.report == output / "report.html"
    page = result.report.read_text(encoding="utf-8")
    assert "Blobs &lt;1&gt;" in page
    assert "Blobs <1>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # nothing is fetched
    assert "http" not in re.sub(r"<pre>.*</pre>", "", page, flags=re.S)
    elements = Open()
    elements.feed(page)
    assert elements.open == []
    shown = pictures_in(page)
    assert [picture.size for picture in shown] == [(1440, 480), (1440, 480), (1560, 480)]
    assert all(np.asarray(picture.convert("L")).std() > 5 for picture in shown)
    for case in result.cases:
        assert f"{case.case}: mean Dice {case.dice:.3f}" in page
    (structure,) = result.structures
    assert f"{structure.surface_dice.mean:.3f} ± {structure.surface_dice.deviation:.3f}" in page
    for text in ("4 to train on, 2 kept aside", "24 x 24 x 16", "Left atrium", "learning_rate", "finished", "torch 2"):
        assert text in page, text
    state = read_state(output)
    assert (state.report, state.package) == ("report.html", "blobs")
    assert Path(state.exported) == result.exported == tmp_path / "blobs.zip"
    picture = Image.open(result.package / "docs" / "preview.png")
    assert picture.size == (1440, 1080)
    assert "![A case kept aside](preview.png)" in (result.package / "docs" / "README.md").read_text("utf-8")


@pytest.mark.usefixtures("a_real_report")
def test_the_page_is_drawn_while_the_run_goes_on(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "REPORT_SECONDS", 0.0)
    output = tmp_path / "out"
    stop = Progress(None, (output / "report.html").exists)
    with pytest.raises(Cancelled):
        run_training(write_recipe(a_small_recipe), a_training_folder, output, device="cpu", progress=stop)
    page = (output / "report.html").read_text(encoding="utf-8")
    (first, *_) = [entry for entry in read_progress(output) if entry["kind"] == "epoch"]
    assert f"{first['dice_per_label']['1']:.3f}" in page
    assert "After epoch 1, on the network's grid" in page
    assert len(pictures_in(page)) == 1


def test_a_page_that_cannot_be_drawn_ends_no_run(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    result = run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", device="cpu")
    assert result.report is None
    assert read_state(tmp_path / "out").report is None


@pytest.mark.usefixtures("a_real_report")
def test_a_fault_of_the_drawing_is_logged_in_a_line_and_ends_no_run(
    a_small_recipe: dict,
    write_recipe,
    a_training_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such\ncolour")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    a_small_recipe["package"]["picture"] = True
    result = run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", device="cpu")
    assert result.report is None
    assert read_state(tmp_path / "out").state == "finished"
    assert not (result.package / "docs" / "preview.png").exists()
    said = [record.getMessage() for record in caplog.records if record.name == "medseg.training.report"]
    assert said
    assert set(said) == {
        "The report was not drawn (ValueError): no such colour",
        "The picture of the package was not drawn (ValueError): no such colour",
    }


def test_a_comparison_shows_the_place_of_the_largest_difference() -> None:
    geometry = Geometry.from_spacing((20, 30, 40), (1.0, 1.0, 2.0))
    image = Volume(np.random.default_rng(0).normal(100, 10, geometry.shape).astype(np.float32), geometry)
    truth = np.zeros(geometry.shape, np.uint8)
    truth[5:15, 10:20, 10:30] = 1
    result = truth.copy()
    result[12] = 0

    def drawn(found: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        write_comparison(image, Volume(truth, geometry), Volume(found, geometry), label_table(1), stream)
        return np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("RGB")).astype(int)

    def coloured(picture: np.ndarray) -> int:
        return int((np.abs(picture[:, :480, 0] - picture[:, :480, 2]) > 30).sum())

    # The first pane is axial: where slice 12 is missing there is the white line of the truth and no filled label.
    assert coloured(drawn(result)) == 0
    assert coloured(drawn(truth)) > 1000


@pytest.fixture
def an_interrupted_run(a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path) -> Path:
    output = tmp_path / "out"
    a_small_recipe["optimisation"]["epochs"] = 3
    stop = Progress(None, lambda: any(entry["kind"] == "epoch" for entry in read_progress(output)))
    with pytest.raises(Cancelled):
        run_training(write_recipe(a_small_recipe), a_training_folder, output, device="cpu", progress=stop)
    return output


def test_an_interrupted_run_can_be_exported(an_interrupted_run: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in an_interrupted_run.iterdir())
    placed = export_run(an_interrupted_run, tmp_path / "models")
    package = read_package(placed)
    load_network(package)
    assert placed == (tmp_path / "models" / "blobs").resolve()
    assert package.metrics == {}
    card = (placed / "docs" / "README.md").read_text()
    assert "The run was not finished: these are the weights after 1 epochs." in card
    assert "2 cases were kept aside" in card
    assert sorted(path.name for path in an_interrupted_run.iterdir()) == before


def test_a_finished_run_is_exported_with_its_figures(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    result = run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", device="cpu")
    placed = export_run(tmp_path / "out", tmp_path / "models")
    assert read_package(placed).weights_sha256 == read_package(result.package).weights_sha256
    assert read_package(placed).metrics == read_package(result.package).metrics != {}


def test_a_folder_without_a_run_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run that has finished an epoch"):
        export_run(tmp_path, tmp_path / "models")
