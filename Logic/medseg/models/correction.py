"""How a network that follows clicks is run: the section ``correction`` of a package, as data, and its MONAI side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, ModelError
from medseg.models.preprocessing import Preprocessing, Window

if TYPE_CHECKING:
    from medseg.models.fields import Fields

CORRECT = "correct"
"""The verb of a package with this section."""

_PROMPTS = ("positive", "negative", "previous")
_LARGEST_RADIUS = 64.0


@dataclass(frozen=True)
class Correction:
    """What a network of clicks needs beside its weights.

    Attributes
    ----------
    domain
        What it was trained for, as a phrase ("any structure in CT and MR").
    radius
        Of the ball that stands for a click, in voxels of the window.
    self_loop
        Whether the first answer from nothing enters a second pass.

    Raises
    ------
    InputError
        When a value is outside its range.
    """

    domain: str
    radius: float
    self_loop: bool = True

    def __post_init__(self) -> None:
        if not self.domain.strip() or not self.domain.isprintable():
            raise InputError(
                "A model that follows clicks does not say what it was trained for.",
                advice="Name it in one line, such as 'any structure in CT and MR'.",
            )
        if not (math.isfinite(self.radius) and 0 < self.radius <= _LARGEST_RADIUS):
            raise InputError(
                f"A click of a model is a ball of {self.radius} voxels.",
                advice=f"Give a radius above 0 and up to {_LARGEST_RADIUS:g}.",
            )


def correction_preprocessing() -> Preprocessing:
    """Return what becomes of the volume: nothing, since every window has its own grid and brightness."""
    return Preprocessing()


def check_correction(correction: Correction | None, verb: str) -> None:
    """Check that a package follows clicks and says how, or does neither.

    Raises
    ------
    ModelError
        When it does one of the two.
    """
    if (correction is not None) != (verb == CORRECT):
        raise ModelError(
            f"The model has the verb '{verb}' and {'a' if correction else 'no'} section 'correction'.",
            advice="The package contradicts itself; ask its author for a corrected one.",
        )


def read_correction(medseg: Fields, metadata: Fields) -> tuple[Correction, Window]:
    """Return the section ``correction`` of a package, and the size of its window.

    Raises
    ------
    ModelError, InputError
        When a field is missing, of a wrong type or out of range.
    """
    section = medseg.object("correction")
    correction = Correction(
        domain=section.text("domain", limit=300),
        radius=section.number("radius", low=0.0, high=_LARGEST_RADIUS),
        self_loop=section.flag("self_loop", default=True),
    )
    formats = metadata.object("network_data_format")
    image = formats.object("inputs").object("image")
    channels = [formats.object("inputs").object(name).whole("num_channels", low=1, high=64) for name in _PROMPTS]
    given = formats.object("outputs").object("pred").whole("num_channels", low=1, high=65536)
    if image.whole("num_channels", low=1, high=64) != 1 or channels != [1, 1, 1] or given != 1:
        raise ModelError(
            f"{metadata.where} does not describe an image, three prompts and an answer of one channel each.",
            advice="The package contradicts itself; ask its author for a corrected one.",
        )
    size = image.triple("spatial_shape", low=1, high=4096)
    if size is None:
        raise image.fail("spatial_shape", "a list of three numbers")
    return correction, Window((int(size[0]), int(size[1]), int(size[2])))


def is_flat(window: Window) -> bool:
    """Return whether a network sees single slices in its window, and not a part of a volume."""
    return window.size_ijk[2] == 1


def correction_data_format(window: Window) -> dict[str, Any]:
    """Return ``network_data_format`` of the metadata: a window and three prompts in, an answer out."""

    def image(kind: str, channel: str, values: list[float]) -> dict[str, Any]:
        return {
            "type": "image",
            "format": kind,
            "num_channels": 1,
            "spatial_shape": list(window.size_ijk),
            "dtype": "float32",
            "value_range": values,
            "is_patch_data": True,
            "channel_def": {"0": channel},
        }

    prompts = {name: image("segmentation", name, [0, 1]) for name in _PROMPTS}
    return {
        "inputs": {"image": {**image("magnitude", "image", []), "modality": "n/a"}, **prompts},
        "outputs": {"pred": image("segmentation", "structure", [])},
    }


def correction_config(
    *, network_target: str, network_arguments: dict[str, Any], weights_file: str, flat: bool = False
) -> dict[str, Any]:
    """Return ``configs/inference.json``: ``python -m monai.bundle run --config_file configs/inference.json`` runs it.

    It takes files of the window's size, normalised already, with balls around the clicks, and writes the probability of
    the structure; ``flat`` files have one slice. MedSeg reads the network from it and nothing else.
    """
    safetensors = weights_file.endswith(".safetensors")
    path = f"@bundle_root + '/{weights_file}'"
    weights = f"safetensors_torch.load_file({path})" if safetensors else f"torch.load({path}, weights_only=True)"
    keys = ["image", *_PROMPTS]
    batch, volume = ("[None, ..., 0]", "[0][..., None]") if flat else ("[None]", "[0]")
    given = ", ".join(f"@window['{key}']{batch}.to(@device)" for key in keys)
    return {
        "imports": [
            "$import torch",
            *(["$import safetensors.torch as safetensors_torch"] if safetensors else []),
        ],
        "bundle_root": ".",
        **{key: f"$@bundle_root + '/{key}.nii.gz'" for key in keys},
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": network_target, **network_arguments},
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": keys},
                {"_target_": "EnsureChannelFirstd", "keys": keys, **({"channel_dim": "no_channel"} if flat else {})},
                {"_target_": "EnsureTyped", "keys": keys},
            ],
        },
        "window": "$@preprocessing({" + ", ".join(f"'{key}': @{key}" for key in keys) + "})",
        "probability": f"$torch.sigmoid(@network({given})).detach(){volume}",
        "save": {
            "_target_": "SaveImage",
            "output_dir": "@output_dir",
            "output_postfix": "structure",
            "output_ext": ".nii.gz",
            "resample": False,
            "separate_folder": False,
            **({"squeeze_end_dims": False} if flat else {}),
        },
        "initialize": [f"$@network.load_state_dict({weights})"],
        "run": ["$@save(@probability, meta_data=@window['image'].meta)"],
    }
