"""Results folders as nnU-Net v2 writes them, with small networks of random weights, and what its predictor would say.

The answer is computed here once more in the plainest way: whole volumes, scikit-image and scipy for every interpolation
and for the weights of the windows, no streaming. Scores are added up in 16-bit numbers, as nnU-Net does.
"""

from __future__ import annotations

import itertools
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from skimage.transform import resize

from medseg.networks import build_network

PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
_DYNAMIC = "dynamic_network_architectures.architectures.unet"
CUBIC = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
LINEAR = {**CUBIC, "order": 1}
SEGMENTATION = {**LINEAR, "is_seg": True}
FUNCTION = "resample_data_or_seg_to_shape"


def configuration(
    patch: list[int], spacing: list[float], *, network: str = PLAIN, channels: int = 1, **changes: Any
) -> dict[str, Any]:
    """Return one configuration of a ``plans.json``."""
    dims = len(patch)
    blocks = "n_conv_per_stage" if network == PLAIN else "n_blocks_per_stage"
    return {
        "data_identifier": "nnUNetPlans",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": patch,
        "spacing": spacing,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [True] * channels,
        "resampling_fn_data": FUNCTION,
        "resampling_fn_data_kwargs": CUBIC,
        "resampling_fn_seg": FUNCTION,
        "resampling_fn_seg_kwargs": SEGMENTATION,
        "resampling_fn_probabilities": FUNCTION,
        "resampling_fn_probabilities_kwargs": LINEAR,
        "architecture": {
            "network_class_name": f"{_DYNAMIC}.{network}",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [4, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
                "kernel_sizes": [[3] * dims] * 2,
                "strides": [[1] * dims, [2] * dims],
                blocks: [1, 1],
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changes,
    }


def old_form(new: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as the first releases of nnU-Net v2 wrote it."""
    old = {key: value for key, value in new.items() if key != "architecture"}
    arguments = new["architecture"]["arch_kwargs"]
    return {
        **old,
        "UNet_class_name": PLAIN,
        "UNet_base_num_features": arguments["features_per_stage"][0],
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1] * len(new["patch_size"]),
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }


DATASET = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "Liver": 1, "kidney_left": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
    "description": "Phantoms.",
}


class ResultsFolder:
    """A folder ``DatasetNNN_Name`` with a training for each configuration.

    Parameters
    ----------
    folder
        Where it is made.
    configurations
        Those of the plans, by name.
    folds
        The folds that are written for each.
    """

    def __init__(
        self,
        folder: Path,
        configurations: dict[str, dict[str, Any]],
        *,
        folds: tuple[str, ...] = ("0",),
        dataset: dict[str, Any] | None = None,
        trainer: str = "nnUNetTrainer",
        mirror_axes: tuple[int, ...] = (0, 1, 2),
        **plans: Any,
    ) -> None:
        self.folder = folder / "Dataset042_Phantom"
        self.dataset = dataset or DATASET
        self.configurations = configurations
        self.trainer = trainer
        self.plans = {
            "dataset_name": self.folder.name,
            "plans_name": "nnUNetPlans",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": configurations,
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {
                str(channel): {"mean": 90.0, "std": 40.0, "percentile_00_5": 10.0, "percentile_99_5": 200.0}
                for channel in range(4)
            },
            **plans,
        }
        self.folds = folds
        self.mirror_axes = mirror_axes
        self.networks: dict[tuple[str, str], torch.nn.Module] = {}
        for name in configurations:
            self.training(name).mkdir(parents=True)
            (self.training(name) / "plans.json").write_text(json.dumps(self.plans))
            (self.training(name) / "dataset.json").write_text(json.dumps(self.dataset))
            for number, fold in enumerate(folds):
                self._train(name, fold, seed=7 * number + len(name))

    def training(self, name: str) -> Path:
        """Return the folder of the training of one configuration."""
        return self.folder / f"{self.trainer}__nnUNetPlans__{name}"

    def checkpoint(self, name: str, fold: str = "0", which: str = "final") -> Path:
        """Return the path of a checkpoint."""
        return self.training(name) / f"fold_{fold}" / f"checkpoint_{which}.pth"

    def classes(self) -> int:
        """Return how many channels the networks give."""
        labels = {name: value for name, value in self.dataset["labels"].items() if name != "ignore"}
        return len(labels) - 1 if "regions_class_order" in self.dataset else len(labels)

    def previous_values(self, name: str) -> list[int]:
        """Return the labels of a first stage that a configuration takes."""
        if "previous_stage" not in self.plan(name):
            return []
        labels = self.dataset["labels"].items()
        return sorted(value for label, value in labels if label not in ("background", "ignore"))

    def plan(self, name: str) -> dict[str, Any]:
        """Return a configuration with what it inherits."""
        own = self.configurations[name]
        return {**self.plan(own["inherits_from"]), **own} if "inherits_from" in own else own

    def _train(self, name: str, fold: str, seed: int) -> None:
        from medseg.models.fields import Fields
        from medseg.models.nnunet.plans import read_configuration

        images = len(self.dataset["channel_names"])
        read = read_configuration(Fields(self.plans, "plans"), name, images, self.trainer)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            channels = images + len(self.previous_values(name))
            arguments = {"in_channels": channels, "out_channels": self.classes(), **read.network_arguments}
            network = build_network(read.network_target, arguments).eval()
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter, std=0.35)
        self.networks[name, fold] = network
        for which in ("final", "best"):
            path = self.checkpoint(name, fold, which)
            path.parent.mkdir(exist_ok=True)
            torch.save(self._content(name, fold, as_nnunet_names(network.state_dict())), path)

    def _content(self, name: str, fold: str, weights: OrderedDict[str, torch.Tensor]) -> dict[str, Any]:
        """Return what nnU-Net saves: more than the weights, with numbers of numpy in its log."""
        loss = np.float64(0.25)
        return {
            "network_weights": weights,
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]},
            "grad_scaler_state": None,
            "logging": {"train_losses": [loss, loss], "dice_per_class_or_region": [[np.float32(0.5)]]},
            "_best_ema": np.float32(0.5),
            "current_epoch": 2,
            "init_args": {
                "plans": self.plans,
                "configuration": name,
                "fold": fold,
                "dataset_json": self.dataset,
                "device": torch.device("cpu"),
            },
            "trainer_name": self.trainer,
            "inference_allowed_mirroring_axes": self.mirror_axes[: len(self.plan(name)["patch_size"])],
        }


def as_nnunet_names(weights: dict[str, torch.Tensor]) -> OrderedDict[str, torch.Tensor]:
    """Return the weights under every name under which nnU-Net's modules are reachable."""
    found: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, tensor in weights.items():
        names = [name]
        for layer, place in ((".conv.", ".all_modules.0."), (".norm.", ".all_modules.1.")):
            if layer in name:
                names.append(name.replace(layer, place))
        names += [f"decoder.{one}" for one in names if one.startswith("encoder.")]
        found.update(dict.fromkeys(names, tensor))
    return found


def predicted(
    results: ResultsFolder,
    name: str,
    images: list[np.ndarray],
    spacing: tuple[float, float, float],
    *,
    folds: tuple[str, ...] = ("0",),
    mirroring: bool = False,
    previous: np.ndarray | None = None,
) -> np.ndarray:
    """Return the labels (k, j, i) that nnU-Net's predictor gives for images (k, j, i) with spacing of k, j, i in mm."""
    plan, order = results.plan(name), results.plans["transpose_forward"]
    data = np.stack([image.transpose(order).astype(float) for image in images])
    steps = [spacing[axis] for axis in order]
    body = ndimage.binary_fill_holes((data != 0).any(axis=0))
    box = tuple(slice(int(np.where(body)[axis].min()), int(np.where(body)[axis].max()) + 1) for axis in range(3))
    data, body = data[(slice(None), *box)], body[box]
    if previous is not None:
        # nnU-Net marks as outside what is outside of the body and has no label.
        body = body | (previous.transpose(order)[box] != 0)
    target = list(plan["spacing"])
    target = [steps[0], *target] if len(target) == 2 else target
    shape = [round(a / b * n) for a, b, n in zip(steps, target, body.shape, strict=True)]
    for channel, scheme in enumerate(plan["normalization_schemes"]):
        properties = results.plans["foreground_intensity_properties_per_channel"][str(channel)]
        data[channel] = normalised(data[channel], scheme, body, plan["use_mask_for_norm"][channel], properties)
    data = np.stack([resized(one, shape, steps, target, plan["resampling_fn_data_kwargs"]) for one in data])
    if previous is not None:
        labels = previous.transpose(order)[box].astype(int)
        labels[(labels == 0) & ~body] = -1
        shares = [
            resized((labels == value).astype(float), shape, steps, target, plan["resampling_fn_seg_kwargs"])
            for value in np.unique(labels)
        ]
        nearest = resize(labels.astype(float), shape, 0, mode="edge", anti_aliasing=False)
        values = np.unique(labels)
        # Of labels with equal shares, that of the nearest voxel.
        ranks = [share + 1e-9 * (nearest == value) for share, value in zip(shares, values, strict=True)]
        labels = values[np.argmax(ranks, axis=0)]
        data = np.concatenate((data, np.stack([labels == value for value in results.previous_values(name)])))
    scores = _blended([results.networks[name, fold] for fold in folds], data, plan["patch_size"], mirroring)
    settings = plan["resampling_fn_probabilities_kwargs"]
    scores = np.stack([resized(one.astype(float), body.shape, target, steps, settings) for one in scores])
    scores = scores.astype(np.float16)
    if "regions_class_order" in results.dataset:
        found = np.zeros(body.shape, int)
        for channel, value in enumerate(results.dataset["regions_class_order"]):
            found[scores[channel] > 0] = value
    else:
        found = scores.argmax(axis=0)
    whole = np.zeros(images[0].transpose(order).shape, int)
    whole[box] = found
    return whole.transpose(np.argsort(order))


def normalised(
    image: np.ndarray, scheme: str, body: np.ndarray, masked: bool, properties: dict[str, float]
) -> np.ndarray:
    """Return one channel normalised."""
    if scheme == "CTNormalization":
        clipped = np.clip(image, properties["percentile_00_5"], properties["percentile_99_5"])
        return (clipped - properties["mean"]) / properties["std"]
    if scheme == "RescaleTo01Normalization":
        return (image - image.min()) / np.ptp(image)
    if scheme == "RGBTo01Normalization":
        return image / 255
    if scheme == "NoNormalization":
        return image
    inside = body if masked else np.ones_like(body)
    return np.where(inside, (image - image[inside].mean()) / image[inside].std(), image)


def resized(
    array: np.ndarray, shape: Any, source: list[float], target: list[float], settings: dict[str, Any]
) -> np.ndarray:
    """Return ``array`` resampled as the plans say."""
    if tuple(shape) == array.shape:
        return array
    deciding = next((steps for steps in (source, target) if max(steps) / min(steps) > 3), None)
    thick = [] if deciding is None else [axis for axis in range(3) if deciding[axis] == max(deciding)]
    if len(thick) != 1:
        return resize(array, shape, settings["order"], mode="edge", anti_aliasing=False)
    axis = thick[0]
    across = [size for other, size in enumerate(shape) if other != axis]
    slices = [
        resize(plane, across, settings["order"], mode="edge", anti_aliasing=False)
        for plane in np.moveaxis(array, axis, 0)
    ]
    count = len(slices)
    nearest = [min(int((index + 0.5) * count / shape[axis]), count - 1) for index in range(shape[axis])]
    return np.moveaxis(np.stack([slices[index] for index in nearest]), 0, axis)


def _blended(networks: list[torch.nn.Module], data: np.ndarray, patch: list[int], mirroring: bool) -> np.ndarray:
    """Blend the mean scores of the networks; nnU-Net blends those of each first, which rounds a little differently."""
    flat = len(patch) == 2
    window = [1, *patch] if flat else patch
    missing = [max(wide - size, 0) for wide, size in zip(window, data.shape[1:], strict=True)]
    padding = [(0, 0), *((count // 2, count - count // 2) for count in missing)]
    image = np.pad(data, padding)
    weights = _bell(patch)[None] if flat else _bell(patch)
    axes = range(1 if flat else 0, 3)
    turns = [turn for count in range(4) for turn in itertools.combinations(axes, count)] if mirroring else [()]
    total: Any = 0
    sums = np.zeros(image.shape[1:], np.float16)
    starts = [_starts(size, wide) for size, wide in zip(image.shape[1:], window, strict=True)]
    for corner in itertools.product(*starts):
        place = tuple(slice(start, start + wide) for start, wide in zip(corner, window, strict=True))
        part = torch.from_numpy(image[(slice(None), *place)]).float()
        scores: Any = 0
        for network, turn in itertools.product(networks, turns):
            turned = torch.flip(part, [axis + 1 for axis in turn])
            with torch.no_grad():
                one = network(turned[None, :, 0] if flat else turned[None])[0]
            one = one[:, None] if flat else one
            scores = scores + torch.flip(one, [axis + 1 for axis in turn]).numpy() / np.float32(
                len(turns) * len(networks)
            )
        if isinstance(total, int):
            total = np.zeros((len(scores), *image.shape[1:]), np.float16)
        total[(slice(None), *place)] = total[(slice(None), *place)] + scores * weights.astype(np.float32)
        sums[place] += weights
    inner = tuple(slice(low, low + size) for (low, _), size in zip(padding[1:], data.shape[1:], strict=True))
    return (total / sums)[(slice(None), *inner)]


def _bell(patch: list[int]) -> np.ndarray:
    point = np.zeros(patch)
    point[tuple(size // 2 for size in patch)] = 1
    bell = ndimage.gaussian_filter(point, [size / 8 for size in patch], mode="constant")
    bell = (10 * bell / bell.max()).astype(np.float16)
    return np.maximum(bell, bell[bell > 0].min())


def _starts(size: int, window: int) -> list[int]:
    if window == 1:
        return list(range(size))
    count = int(np.ceil((size - window) / (window * 0.5))) + 1
    return [int(np.round((size - window) / max(count - 1, 1) * index)) for index in range(count)]
