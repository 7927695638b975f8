"""The inference configuration of a bundle that registers, written for MONAI to run; MedSeg reads its network only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.models.preprocessing import Preprocessing, Window
    from medseg.models.registration import Registration

_KEYS = ["fixed", "moving"]


def registration_config(
    *,
    network_target: str,
    network_arguments: dict[str, Any],
    preprocessing: Preprocessing,
    registration: Registration,
    weights_file: str,
) -> dict[str, Any]:
    """Return ``configs/inference.json``: ``python -m monai.bundle run --config_file configs/inference.json`` runs it.

    It brings ``moving`` onto ``fixed`` (both can be set on the command line), two volumes that are aligned already, and
    writes the moved volume and the displacement field below ``output_dir``. The field is on the network's grid, in its
    voxels, one channel an axis.
    """
    safetensors = weights_file.endswith(".safetensors")
    path = f"@bundle_root + '/{weights_file}'"
    weights = f"safetensors_torch.load_file({path})" if safetensors else f"torch.load({path}, weights_only=True)"
    to_device = "[None].to(@device)"
    return {
        "imports": [
            "$import torch",
            *(["$import safetensors.torch as safetensors_torch"] if safetensors else []),
        ],
        "bundle_root": ".",
        "fixed": "$@bundle_root + '/fixed.nii.gz'",
        "moving": "$@bundle_root + '/moving.nii.gz'",
        "output_dir": "$@bundle_root + '/eval'",
        "smoothness": registration.smoothness,
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": network_target, **network_arguments},
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _transforms(preprocessing, registration.multiple)},
        "pair": "$@preprocessing({'fixed': @fixed, 'moving': @moving})",
        "displacement": (
            f"$@network(@pair['fixed']{to_device}, @pair['moving']{to_device}, @smoothness).detach().as_tensor()"
        ),
        "warp": {"_target_": "monai.networks.blocks.Warp", "mode": "bilinear", "padding_mode": "border"},
        "moved": f"$@warp(@pair['moving']{to_device}.as_tensor(), @displacement)[0]",
        "save_moved": _saver("moved"),
        "save_displacement": _saver("displacement"),
        "initialize": [f"$@network.load_state_dict({weights})"],
        "run": [
            "$@save_moved(@moved, meta_data=@pair['fixed'].meta)",
            "$@save_displacement(@displacement[0], meta_data=@pair['fixed'].meta)",
        ],
    }


def registration_data_format(window: Window, modality: str) -> dict[str, Any]:
    """Return ``network_data_format`` of the metadata: two images in, a displacement field out."""
    shape = list(window.size_ijk)
    image = {
        "type": "image",
        "format": "hounsfield" if modality == "CT" else "magnitude",
        "modality": modality or "n/a",
        "num_channels": 1,
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {"0": "image"},
    }
    field = {
        "type": "tuples",
        "format": "displacement",
        "num_channels": 3,
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {"0": "voxels along i", "1": "voxels along j", "2": "voxels along k"},
    }
    return {"inputs": dict.fromkeys(_KEYS, image), "outputs": {"pred": field}}


def _transforms(preprocessing: Preprocessing, multiple: int) -> list[dict[str, Any]]:
    return [
        {"_target_": "LoadImaged", "keys": _KEYS},
        {"_target_": "EnsureChannelFirstd", "keys": _KEYS},
        {"_target_": "Orientationd", "keys": "fixed", "axcodes": preprocessing.orientation},
        {"_target_": "Spacingd", "keys": "fixed", "pixdim": list(preprocessing.spacing), "mode": "bilinear"},
        {"_target_": "ResampleToMatchd", "keys": "moving", "key_dst": "fixed", "mode": "bilinear"},
        *({**step.to_monai("image"), "keys": _KEYS} for step in preprocessing.intensity),
        {"_target_": "DivisiblePadd", "keys": _KEYS, "k": multiple},
        {"_target_": "EnsureTyped", "keys": _KEYS},
    ]


def _saver(postfix: str) -> dict[str, Any]:
    return {
        "_target_": "SaveImage",
        "output_dir": "@output_dir",
        "output_postfix": postfix,
        "output_ext": ".nii.gz",
        "resample": False,
        "separate_folder": False,
    }
