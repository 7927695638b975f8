"""``medseg analyse slice-attention``: a table, whole or of one slice, and sentences for what is wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from medseg.models import Window
from medseg.networks import TSFMUNet
from support.packages import write_bright_blob_package


@pytest.fixture(scope="module")
def a_model_of_slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": 2, "base": 2, "depth": 2, "heads": 2}
    return write_bright_blob_package(
        tmp_path_factory.mktemp("models") / "slices",
        name="slices",
        network_target="medseg.networks.TSFMUNet",
        network_arguments=arguments,
        window=Window((40, 40, 8), 0.5),
        state_dict=TSFMUNet(**arguments).state_dict(),
        slice_spacing_range=(3.0, 5.0),
    )


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_the_table_of_a_scan_has_its_slices_and_the_notices_are_told(medseg, a_model_of_slices, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")
    output = tmp_path / "slices.csv"
    result = medseg("analyse", "slice-attention", image, "--model", a_model_of_slices, "--output", output)

    assert result.exit_code == 0, result.output
    assert f"Written: {output} (slices along the k axis)" in result.stdout
    assert "1 mm apart, and the model was trained with 3 to 5 mm" in result.stderr
    header, *lines = rows_of(output)
    assert header == ["slice", *(str(index) for index in range(32))]
    assert len(lines) == 32
    assert all(sum(map(float, line[1:])) == pytest.approx(1, abs=1e-4) for line in lines)


def test_one_slice_is_asked_for_by_its_number(medseg, a_model_of_slices, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")
    whole, one = tmp_path / "slices.csv", tmp_path / "one.csv"
    medseg("analyse", "slice-attention", image, "--model", a_model_of_slices, "--output", whole)
    result = medseg("analyse", "slice-attention", image, "-m", a_model_of_slices, "-o", one, "--slice", 12)

    assert result.exit_code == 0, result.output
    assert [line[1] for line in rows_of(one)[1:]] == rows_of(whole)[13][1:]


def test_a_slice_beyond_the_last_is_told_and_nothing_is_written(medseg, a_model_of_slices, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")
    output = tmp_path / "one.csv"
    result = medseg("analyse", "slice-attention", image, "-m", a_model_of_slices, "-o", output, "--slice", 40)

    assert result.exit_code == 1
    assert "The image has no slice 40 along its k axis." in result.stderr
    assert not output.exists()


def test_a_model_without_attention_between_slices_is_told(medseg, an_installed_model, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")
    result = medseg("analyse", "slice-attention", image, "-m", an_installed_model, "-o", tmp_path / "none.csv")

    assert result.exit_code == 1
    assert "cannot tell which slices informed which" in result.stderr


def test_the_table_must_be_a_csv(medseg, a_model_of_slices, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")
    result = medseg("analyse", "slice-attention", image, "-m", a_model_of_slices, "-o", tmp_path / "slices.png")

    assert result.exit_code == 2
    assert ".csv" in result.stderr
