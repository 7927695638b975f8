"""``medseg demo``: what the README's first command does."""

from __future__ import annotations

import re

import SimpleITK as sitk

from medseg.metrics import dice


def test_the_bundled_model_segments_the_synthetic_heart(medseg, tmp_path):
    output = tmp_path / "new" / "output"

    result = medseg("demo", "--output", output, "--device", "cpu")

    assert result.exit_code == 0, result.output
    truth, made = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(output / name)))
        for name in ("synthetic-heart-truth.nii.gz", "synthetic-heart.seg.nrrd")
    )
    score = dice(made > 0, truth > 0)
    assert score > 0.85
    told = re.search(r"Dice with the known truth of the synthetic heart: ([\d.]+)", result.stdout)
    assert abs(float(told.group(1)) - score) < 0.001
    for ending in (".seg.nrrd", ".csv", ".png"):
        path = output / f"synthetic-heart{ending}"
        assert path.is_file()
        assert f"Written: {path}" in result.stdout


def test_a_volume_of_the_user_is_segmented_instead(medseg, an_installed_model, a_blob_file, tmp_path):
    image, _ = a_blob_file("mine.nii.gz")

    result = medseg("demo", image, "--output", tmp_path / "output", "--model", an_installed_model)

    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["mine.csv", "mine.png", "mine.seg.nrrd"]
    assert "Dice" not in result.stdout
