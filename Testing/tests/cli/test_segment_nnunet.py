"""``medseg segment`` and the worker's verb with a results folder of nnU-Net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.backend.encoding import decode_result
from medseg.backend.verbs import Task, WarmModels, estimate_call, segment_verb
from medseg.errors import InputError
from medseg.progress import NO_PROGRESS
from medseg.volumes import read_volume
from support.nnunet import ResultsFolder, configuration


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    plans = {"3d_fullres": configuration([16, 16, 16], [2.0, 2.0, 2.0]), "2d": configuration([16, 16], [2.0, 2.0])}
    return ResultsFolder(tmp_path, plans, folds=("0", "1"))


def test_a_results_folder_is_given_as_the_model(medseg, results, a_blob_file, tmp_path):
    image, _ = a_blob_file("scan.nii.gz")
    output = tmp_path / "out.seg.nrrd"
    result = medseg("segment", image, "--model", results.folder, "--option", "folds=1", "--output", output)
    assert result.exit_code == 0, result.output
    written = sitk.ReadImage(str(output))
    names = [written.GetMetaData(key) for key in written.GetMetaDataKeys() if key.endswith("_Name")]
    assert {"Liver", "kidney_left"} & set(names)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [("folds=5", "Choose some of: 0, 1"), ("speed=high", "Its options are: configuration"), ("folds", "NAME=VALUE")],
)
def test_a_wrong_option_is_a_sentence(medseg, results, a_blob_file, tmp_path, option, sentence):
    image, _ = a_blob_file("scan.nii.gz")
    result = medseg("segment", image, "-m", results.folder, "--option", option, "-o", tmp_path / "out.nii.gz")
    assert result.exit_code != 0
    assert sentence in " ".join(result.output.split())


def test_the_worker_takes_choices_and_keeps_networks_apart(results, a_blob_file):
    volume = read_volume(a_blob_file("scan.nii.gz")[0])
    warm, found = WarmModels(), []
    for folds in ("0", "1"):
        options = {"device": "cpu", "statistics": False, "choices": {"folds": folds}}
        parcel = segment_verb(Task(str(results.folder), options, [volume], warm, NO_PROGRESS))
        found.append(decode_result(bytes(parcel.head) + bytes(parcel.body)).labelmap.array)
    assert not np.array_equal(*found)


def test_an_estimate_follows_what_was_chosen(results):
    request = {
        "model": str(results.folder),
        "device": "cpu",
        "geometry": {"shape": [40, 40, 40], "ijk_to_ras": np.diag([2.0, 2.0, 2.0, 1.0]).ravel().tolist()},
    }
    plain = estimate_call(request)
    mirrored = estimate_call({**request, "choices": {"mirroring": "yes"}})
    flat = estimate_call({**request, "choices": {"configuration": "2d"}})
    assert mirrored["seconds"] == pytest.approx(8 * plain["seconds"])
    assert flat["windows"] > plain["windows"]
    with pytest.raises(InputError, match="texts by name"):
        estimate_call({**request, "choices": {"folds": 1}})
