"""Make nnU-Net v2 results folders with nnU-Net itself, and ask its own predictor what it makes of images.

Needs ``nnunetv2`` and small volumes of ``../shared/data``; run it with a Python that has both::

    PYTHONPATH=Testing python -m benchmarks.nnunet_reference FOLDER [KIND ...]

Writes ``FOLDER/results/Dataset.../`` as nnU-Net does, and beside it ``FOLDER/expected/KIND/`` with the images of a case
and, for each way of predicting, the labelmap of ``nnUNetPredictor``. The tests compare MedSeg's answer with these when
``MEDSEG_NNUNET_REFERENCE`` names ``FOLDER``. Minutes on one core: the networks are tiny and hardly trained, which makes
the comparison harder and not easier, because the scores of their classes lie close together.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

CASES = 6
EPOCHS, ITERATIONS = 2, 130
_PROCESSES = "nnUNet_n_proc_DA"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A dataset with its plans: ``changes`` are laid over the configurations that nnU-Net's planner writes."""

    number: int
    dataset: dict[str, Any]
    changes: dict[str, dict[str, Any]]
    folds: dict[str, tuple[Any, ...]]
    plans: dict[str, Any] = dataclasses.field(default_factory=dict)
    planner: str = "ExperimentPlanner"

    def name(self, kind: str) -> str:
        """Return the dataset's folder name."""
        return f"Dataset{self.number}_{kind.title().replace('-', '')}"


def small(features: list[int], patch: list[int], strides: list[Any], **more: Any) -> dict[str, Any]:
    """Return changes that make a configuration's network small enough for minutes on one core."""
    flat = len(patch) == 2
    return {
        "patch_size": patch,
        "batch_size": 2,
        "network": {
            "n_stages": len(features),
            "features_per_stage": features,
            "kernel_sizes": [[3] * len(patch)] * len(features),
            "strides": [[step] * (2 if flat else 3) if isinstance(step, int) else step for step in strides],
        },
        **more,
    }


KINDS = {
    "hippocampus": Kind(
        701,
        {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "Anterior": 1, "Posterior": 2}},
        {
            "2d": small([8, 16, 16], [40, 32], [1, 2, 2], spacing=[1.1, 0.9]),
            "3d_fullres": small([8, 16, 16], [24, 32, 24], [1, 2, 2], spacing=[1.1, 0.9, 1.2]),
            "3d_lowres": {
                **small([8, 16, 16], [16, 24, 16], [1, 2, 2], spacing=[1.6, 1.6, 1.7]),
                "inherits_from": "3d_fullres",
                "data_identifier": "nnUNetPlans_3d_lowres",
                "next_stage": "3d_cascade_fullres",
            },
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        {"2d": (0,), "3d_fullres": (0, 1), "3d_lowres": ("all",), "3d_cascade_fullres": ("all",)},
    ),
    "heart-regions": Kind(
        702,
        {
            "channel_names": {"0": "cine", "1": "rescale_to_0_1"},
            "labels": {"background": 0, "heart": [1, 2, 3], "left ventricle with wall": [2, 3], "left ventricle": [3]},
            "regions_class_order": [1, 2, 3],
        },
        {"3d_fullres": small([8, 16, 16], [8, 64, 48], [1, [1, 2, 2], 2], spacing=[9.0, 1.9, 2.1])},
        {"3d_fullres": (0,)},
        {"transpose_forward": [0, 2, 1], "transpose_backward": [0, 2, 1]},
        "nnUNetPlannerResEncM",
    ),
    "head-neck": Kind(
        703,
        {
            "channel_names": {"0": "CT", "1": "noNorm"},
            "labels": {"background": 0, "soft tissue": 1, "bone": 2, "ignore": 3},
        },
        {
            "3d_fullres": small([8, 16, 16], [32, 32, 32], [1, 2, 2], spacing=[3.1, 4.5, 4.5]),
            "2d": small([8, 16, 16], [48, 64], [1, 2, 2], spacing=[4.3, 4.1]),
        },
        {"3d_fullres": (0,), "2d": (1,)},
    ),
}


def data_folder() -> Path:
    """Return the folder of real volumes."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("MEDSEG_TEST_DATA", default))


def cases_of(kind: str) -> list[tuple[list[sitk.Image], sitk.Image]]:
    """Return images (one for each channel) and labels of the cases, the last one for predicting only."""
    root = data_folder()
    found = []
    if kind == "hippocampus":
        images = sorted(path for path in (root / "mr-hippocampus").glob("*.nii.gz") if "label" not in path.name)
        for index, path in enumerate(images[: CASES + 1]):
            image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
            labels = sitk.Cast(sitk.ReadImage(str(path).replace(".nii.gz", "_label.nii.gz")), sitk.sitkUInt8)
            # A margin of zeros, as around a skull-stripped head: nnU-Net crops it, and normalises inside only.
            margin = (6 + index, 9), (11, 4), (7, 8)
            low, high = [side[0] for side in margin], [side[1] for side in margin]
            found.append(([sitk.ConstantPad(image, low, high)], sitk.ConstantPad(labels, low, high)))
    elif kind == "heart-regions":
        images = sorted(path for path in (root / "mr-cardiac-cine").glob("*.nii.gz") if is_image(path))
        for path in images[: CASES + 1]:
            image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)[70:180, 70:190]
            labels = sitk.Cast(sitk.ReadImage(str(label_of(path))), sitk.sitkUInt8)[70:180, 70:190]
            found.append(([image, sitk.Cast(sitk.SmoothingRecursiveGaussian(image, 3.0), sitk.sitkFloat32)], labels))
    else:
        # Tissues by their HU: learned in a few steps, in every slice.
        for path in sorted((root / "ct-head-neck").glob("hn_???.nii.gz"))[: CASES + 1]:
            image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
            tissue = sitk.GetArrayFromImage(image)
            picked = (tissue > -300).astype(np.uint8)
            picked[tissue > 150] = 2
            picked[:4] = 3
            truth = sitk.GetImageFromArray(picked)
            truth.CopyInformation(image)
            smooth = sitk.Cast(sitk.SmoothingRecursiveGaussian(image, 6.0), sitk.sitkFloat32) / 1000.0
            found.append(([image, smooth], truth))
    return found


def is_image(path: Path) -> bool:
    """Say whether a file of the cardiac folder is an image."""
    return not any(word in path.name for word in ("label", "_gt", "seg"))


def label_of(path: Path) -> Path:
    """Return the labels that belong to an image of the cardiac folder."""
    stem = path.name.removesuffix(".nii.gz")
    return next(
        path.with_name(f"{stem}{end}.nii.gz")
        for end in ("_label", "_gt")
        if path.with_name(f"{stem}{end}.nii.gz").exists()
    )


def make(folder: Path, kind: str) -> None:
    """Train every configuration of ``kind`` and write what nnU-Net's predictor answers."""
    os.environ[_PROCESSES] = "1"
    spec = KINDS[kind]
    name = spec.name(kind)
    raw = folder / "raw" / name
    cases = cases_of(kind)
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for index, (images, labels) in enumerate(cases[:-1]):
        for channel, image in enumerate(images):
            sitk.WriteImage(image, str(raw / "imagesTr" / f"case_{index:03d}_{channel:04d}.nii.gz"))
        sitk.WriteImage(labels, str(raw / "labelsTr" / f"case_{index:03d}.nii.gz"))
    about = {**spec.dataset, "numTraining": len(cases) - 1, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(about))
    plan(spec)
    # No processes of its own for the augmentation; the planner wants at least one.
    os.environ[_PROCESSES] = "0"
    for configuration, folds in spec.folds.items():
        for fold in folds:
            train(name, configuration, fold)
    expect(folder, kind, cases[-1][0])


def plan(spec: Kind) -> None:
    """Let nnU-Net plan, lay our changes over its plans, and preprocess."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    api.extract_fingerprints([spec.number], num_processes=1, check_dataset_integrity=False)
    api.plan_experiments([spec.number], spec.planner)
    folder = Path(str(nnUNet_preprocessed)) / maybe_convert_to_dataset_name(spec.number)
    written = next(path for path in folder.glob("nnUNet*lans.json"))
    plans = json.loads(written.read_text())
    plans.update(spec.plans, plans_name="nnUNetPlans")
    for name, changes in spec.changes.items():
        configuration = plans["configurations"].setdefault(name, {})
        network = changes.get("network")
        configuration.update({key: value for key, value in changes.items() if key != "network"})
        if network and "inherits_from" in changes:
            base = json.loads(json.dumps(plans["configurations"][changes["inherits_from"]]["architecture"]))
            configuration["architecture"] = base
        if network:
            arguments = configuration["architecture"]["arch_kwargs"]
            count = network["n_stages"]
            for key in ("n_conv_per_stage", "n_blocks_per_stage"):
                if key in arguments:
                    network = {**network, key: [2] * count}
            arguments.update(network, n_conv_per_stage_decoder=[1] * (count - 1))
    plans["configurations"] = {name: plans["configurations"][name] for name in spec.changes}
    for configuration in plans["configurations"].values():
        if "data_identifier" in configuration:
            configuration["data_identifier"] = configuration["data_identifier"].replace("ResEncUNetMPlans", "Plans")
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans, indent=1))
    needed = [name for name in spec.changes if name != "3d_cascade_fullres"]
    api.preprocess([spec.number], "nnUNetPlans", needed, [1])


def train(dataset: str, configuration: str, fold: Any) -> None:
    """Train one fold for a few iterations; the first stage of a cascade predicts all its cases besides."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - nnU-Net's augmentation draws from it
    trainer = get_trainer_from_args(dataset, configuration, fold, device=torch.device("cpu"))
    trainer.num_epochs = EPOCHS
    trainer.num_iterations_per_epoch = ITERATIONS
    trainer.num_val_iterations_per_epoch = 2
    trainer.run_training()
    if trainer.configuration_manager.next_stage_names:
        trainer.perform_actual_validation(False)


def expect(folder: Path, kind: str, images: list[sitk.Image]) -> None:
    """Write the images of one case and what nnU-Net's predictor makes of them, in every configuration."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    spec = KINDS[kind]
    target = folder / "expected" / kind
    shutil.rmtree(target, ignore_errors=True)
    (target / "images").mkdir(parents=True)
    for channel, image in enumerate(images):
        sitk.WriteImage(image, str(target / "images" / f"case_{channel:04d}.nii.gz"))
    for configuration, folds in spec.folds.items():
        model = folder / "results" / spec.name(kind) / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        for mirroring in (False, True):
            predictor = nnUNetPredictor(use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(str(model), folds, "checkpoint_final.pth")
            answer = f"{configuration}{'-mirrored' if mirroring else ''}"
            previous = None
            if configuration == "3d_cascade_fullres":
                previous = str(target / f"3d_lowres{'-mirrored' if mirroring else ''}")
            (target / answer).mkdir()
            predictor.predict_from_files_sequential(
                str(target / "images"), str(target / answer), folder_with_segs_from_prev_stage=previous
            )


def main(arguments: list[str]) -> None:
    """Make the folders of all kinds, or of those named."""
    folder = Path(arguments[0]).absolute()
    os.environ.update(
        nnUNet_raw=str(folder / "raw"),
        nnUNet_preprocessed=str(folder / "preprocessed"),
        nnUNet_results=str(folder / "results"),
        nnUNet_def_n_proc="1",
        OMP_NUM_THREADS="1",
    )
    for kind in arguments[1:] or KINDS:
        make(folder, kind)


if __name__ == "__main__":
    main(sys.argv[1:])
