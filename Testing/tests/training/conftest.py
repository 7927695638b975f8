"""A training set of bright blobs, small enough to learn from in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medseg.volumes import write_labelmap, write_volume
from support.packages import bright_blob_case


@pytest.fixture
def a_real_report() -> None:
    """Ask for it where the report is what is tested."""


@pytest.fixture(autouse=True)
def quick_runs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What takes seconds and has tests of its own: a process that measures the cost of a run, and drawing."""
    monkeypatch.setattr("medseg.training.trainer.measure_cost", lambda *_: None)
    if "a_real_report" not in request.fixturenames:
        monkeypatch.setattr("medseg.training.report.Report.write", lambda _: False)


@pytest.fixture(scope="session")
def a_training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blobs")
    for number in range(6):
        image, label = bright_blob_case(seed=number, shape=(16, 24, 24), spacing=(1.0, 1.0, 2.0))
        write_volume(image, folder / f"case_{number}.nii.gz")
        write_labelmap(label, folder / f"case_{number}_label.nii.gz")
    return folder


@pytest.fixture
def a_small_recipe(repository: Path) -> dict:
    """The bundled recipe, made small: what is tested is what ships."""
    content = yaml.safe_load((repository / "Resources" / "recipes" / "left-atrium-mr-tsfmunet.yaml").read_text())
    content["data"]["folds"] = 3
    content["network"]["arguments"].update(base=4, depth=2, levels=[], attention="slice")
    content["augmentation"].update(affine_probability=0.2, elastic_probability=0.0)
    content["preprocessing"]["spacing"] = [1.0, 1.0, None]
    content["window"]["size"] = [24, 24, 8]
    content["package"].update(name="blobs", largest_component=False, fill_holes=False)
    content["optimisation"].update(
        epochs=2, steps_per_epoch=4, validate_every=1, workers=0, learning_rate=5e-3, warmup_steps=2
    )
    content["optimisation"]["precision"] = "32"
    return content


@pytest.fixture
def write_recipe(repository: Path, tmp_path: Path):
    labels = (repository / "Resources" / "recipes" / "left-atrium-mr.labels.csv").read_text()
    (tmp_path / "left-atrium-mr.labels.csv").write_text(labels)

    def write(content: dict) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write
