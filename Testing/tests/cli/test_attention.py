"""``medseg analyse attention``: a map beside the image, and sentences for what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.volumes import read_volume
from support.attention import write_attending_package

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def a_model_that_looks_around(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_attending_package(tmp_path_factory.mktemp("models") / "attending")


def test_the_map_of_a_point_is_written_and_explained(medseg, a_model_that_looks_around, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz", origin=(-30.0, 4.0, 2.0))
    output = tmp_path / "map.nii.gz"
    result = medseg(
        "analyse",
        "attention",
        image,
        "--model",
        a_model_that_looks_around,
        "--point",
        "-10.5,20,15",
        "--output",
        output,
    )
    assert result.exit_code == 0, result.output
    assert f"Written: {output}" in result.stdout
    assert "Derived, not measured" in result.stderr
    assert "(-10.5, 20.0, 15.0) mm" in result.stderr
    found = read_volume(output)
    assert found.array.sum() == pytest.approx(1.0, abs=1e-4)
    assert found.geometry.spacing == pytest.approx((8.0, 8.0, 8.0))
    scan = read_volume(image)
    corner = scan.geometry.ras_to_ijk_points(found.geometry.origin)
    np.testing.assert_allclose(corner % 1, 0.5, atol=1e-3)


@pytest.mark.parametrize(
    ("point", "exit_code", "words"),
    [("here", 2, "not three numbers"), ("1,2", 1, "three numbers"), ("900,0,0", 1, "outside the volume")],
)
def test_a_wrong_point_is_told(
    medseg, a_model_that_looks_around, a_blob_file, tmp_path, point: str, exit_code: int, words: str
):
    image, _ = a_blob_file("scan.nii.gz")
    output = tmp_path / "map.nii.gz"
    result = medseg(
        "analyse", "attention", image, "--model", a_model_that_looks_around, "--point", point, "--output", output
    )
    assert result.exit_code == exit_code
    assert words in " ".join(result.stderr.split())
    assert not output.exists()


def test_a_model_without_attention_is_told(medseg, an_installed_model, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")
    result = medseg(
        "analyse", "attention", image, "--model", an_installed_model, "--point", "1,2,3", "--output", tmp_path / "m.nii"
    )
    assert result.exit_code == 1
    assert "cannot tell where it looks" in result.stderr
