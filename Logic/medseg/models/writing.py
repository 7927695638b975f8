"""Write a model package: a valid MONAI bundle with what MedSeg needs besides."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import ModelError, WriteError
from medseg.labels import LabelTable, write_labels
from medseg.models.bundle import inference_config, network_name
from medseg.models.card import license_text, model_card
from medseg.models.correction import CORRECT, Correction, correction_config, correction_data_format, is_flat
from medseg.models.package import InputSlot, Measured, ModelPackage, Postprocessing, sha256_of
from medseg.models.placing import folder_beside, replace_folder
from medseg.models.reading import FORMAT, INFERENCE, LABELS, METADATA, read_package
from medseg.models.registration import REGISTER, Registration, check_registration
from medseg.models.registration_bundle import registration_config, registration_data_format
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from medseg.models.instances import Instances
    from medseg.models.preprocessing import Preprocessing, Window

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_LOWEST = {"monai": "1.4", "torch": "2.2", "numpy": "1.26", "nibabel": "5.2", "pytorch-ignite": "0.5", "einops": "0.6"}
_NEEDS_EINOPS = ("SwinUNETR", "TwoHeadedSwinUNETR")
"""Networks built on MONAI's Swin transformer, which needs a package that MONAI does not install."""


def write_package(
    folder: str | Path,
    *,
    name: str,
    title: str,
    description: str,
    version: str,
    license: str,  # noqa: A002 - the word of the field, in MONAI's metadata too
    inputs: Sequence[InputSlot],
    labels: LabelTable,
    network_target: str,
    network_arguments: Mapping[str, Any],
    preprocessing: Preprocessing,
    window: Window,
    state_dict: Mapping[str, Tensor],
    postprocessing: Postprocessing | None = None,
    measured: Measured | None = None,
    metrics: Mapping[str, float] | None = None,
    anatomy: Sequence[str] = (),
    authors: str = "The MedSeg developers",
    citation: str = "",
    copyright: str = "",  # noqa: A002 - the word of MONAI's metadata
    data_source: str = "",
    intended_use: str = "Research only; not for diagnosis.",
    changelog: Mapping[str, str] | None = None,
    requires: Mapping[str, str] | None = None,
    card: str = "",
    license_body: str = "",
    half: bool = False,
    safetensors: bool = False,
    output_channels: int | None = None,
    instances: Instances | None = None,
    slice_spacing_range: tuple[float, float] | None = None,
    registration: Registration | None = None,
    correction: Correction | None = None,
    overwrite: bool = False,
) -> ModelPackage:
    """Write a model package to ``folder`` and return it as :func:`read_package` reads it; all of it or nothing.

    Parameters
    ----------
    network_target, network_arguments
        As :func:`medseg.networks.build_network` takes them; arguments must be JSON (numbers, texts, lists, objects).
    state_dict
        The weights, tensors by name.
    metrics
        Accuracy for the card and the metadata, such as ``{"mean_dice": 0.93}``.
    requires
        Lowest versions; ``None``: those of MedSeg, torch and MONAI that MedSeg itself needs, and of einops for a
        network that needs it.
    card
        Text (Markdown) that the card has after its tables: training data, limits.
    license_body
        The text of ``LICENSE``; empty: the name of the licence and where to find its text.
    half
        Store floating-point weights as float16; they are used as float32.
    safetensors
        Store as ``model.safetensors`` instead of ``model.pt``.
    output_channels
        Channels of the network's output; ``None``: the largest label value and the background.
    instances
        How labels are separated into single bones; ``None``: they are not.
    slice_spacing_range
        The least and the largest distance of slices in training (mm); ``None``: not told.
    registration
        Makes a package that registers; its ``preprocessing`` is that of
        :func:`medseg.models.registration.registration_preprocessing`, its ``inputs`` are the fixed and the moving
        volume, its ``labels`` those by which it was measured, its ``window`` is the size that it was trained on.
    correction
        Makes a package that follows clicks; its ``preprocessing`` is that of
        :func:`medseg.models.correction.correction_preprocessing`, its ``window`` is that of its training, its
        ``labels`` are those by which it was measured.
    overwrite
        Replace a package that is there already; it stays untouched until the new one is complete.

    Raises
    ------
    WriteError
        When ``folder`` exists already (without ``overwrite``) or cannot be written.
    ModelError
        When the description contradicts itself; nothing is written.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not overwrite:
        raise WriteError(f"{folder} exists already.", advice="Choose another folder, or allow to replace it.")
    target = network_name(network_target)
    arguments = _plain(network_arguments, "network_arguments")
    needed = {name: _LOWEST[name] for name in ("einops",) if target.rpartition(".")[2] in _NEEDS_EINOPS}
    weights_file = f"models/model.{'safetensors' if safetensors else 'pt'}"
    verb = REGISTER if registration else CORRECT if correction else "segment"
    check_registration(registration, verb, preprocessing)
    if correction is not None:
        config = correction_config(
            network_target=target, network_arguments=arguments, weights_file=weights_file, flat=is_flat(window)
        )
        data_format = correction_data_format(window)
    elif registration is None:
        channels = output_channels or labels.values[-1] + 1
        _check_channels(arguments, channels)
        config = inference_config(
            network_target=target,
            network_arguments=arguments,
            preprocessing=preprocessing,
            window=window,
            postprocessing=postprocessing or Postprocessing(),
            label_values=labels.values,
            output_channels=channels,
            weights_file=weights_file,
        )
        data_format = _data_format(inputs, labels, channels, window)
    else:
        config = registration_config(
            network_target=target,
            network_arguments=arguments,
            preprocessing=preprocessing,
            registration=registration,
            weights_file=weights_file,
        )
        data_format = registration_data_format(window, inputs[0].modality if inputs else "")
    metadata = {
        "schema": _SCHEMA,
        "version": version,
        "changelog": dict(changelog or {version: "first version"}),
        "monai_version": _installed("monai"),
        "pytorch_version": _installed("torch"),
        "numpy_version": _installed("numpy"),
        "required_packages_version": {
            "nibabel": _installed("nibabel"),
            "pytorch-ignite": _installed("pytorch-ignite"),
            **({"medseg": VERSION} if target.startswith("medseg.") else {}),
            **({"safetensors": _installed("safetensors")} if safetensors else {}),
            **{name: _installed(name) for name in needed},
        },
        "task": title,
        "description": description,
        "authors": authors,
        "copyright": copyright or f"Copyright (c) {authors}",
        "data_source": data_source,
        "data_type": "nibabel",
        "eval_metrics": dict(metrics or {}),
        "intended_use": intended_use,
        "references": [citation] if citation else [],
        "network_data_format": data_format,
    }
    medseg: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "title": title,
        "verb": verb,
        "license": license,
        "anatomy": list(anatomy),
        "citation": citation,
        "inputs": [vars(slot) for slot in inputs],
        "postprocessing": vars(postprocessing or Postprocessing()),
        "measured": vars(measured or Measured()),
        "requires": dict(
            requires or {"medseg": VERSION, "torch": _LOWEST["torch"], "monai": _LOWEST["monai"], **needed}
        ),
    }
    if instances is not None:
        medseg["instances"] = instances.to_plain()
    if registration is not None:
        medseg["registration"] = registration.to_plain(preprocessing)
    if correction is not None:
        medseg["correction"] = dict(vars(correction))
    if slice_spacing_range is not None:
        medseg["slice_spacing_range"] = [float(spacing) for spacing in slice_spacing_range]
    with folder_beside(folder.parent) as temporary:
        draft = temporary / folder.name
        for part in ("configs", "models", "docs"):
            (draft / part).mkdir(parents=True)
        _save_weights(state_dict, draft / weights_file, half=half)
        medseg["weights"] = {
            "file": weights_file,
            "sha256": sha256_of(draft / weights_file),
            "bytes": (draft / weights_file).stat().st_size,
        }
        _write_json(draft / METADATA, {**metadata, "medseg": medseg})
        _write_json(draft / INFERENCE, config)
        write_labels(labels, draft / LABELS)
        package = read_package(draft)
        (draft / "docs" / "README.md").write_text(model_card(package, card), encoding="utf-8", newline="\n")
        (draft / "LICENSE").write_text(license_body or license_text(license), encoding="utf-8", newline="\n")
        replace_folder(draft, folder, temporary)
    return read_package(folder)


def _check_channels(arguments: dict[str, Any], channels: int) -> None:
    declared = arguments.get("out_channels", channels)
    if declared != channels:
        raise ModelError(
            f"The network gives {declared} channels, but the labels need {channels}: one for every value from 0.",
            advice="Number the labels from 1 without gaps, or give output_channels.",
        )


def _save_weights(state_dict: Mapping[str, Tensor], path: Path, *, half: bool) -> None:
    import torch

    tensors: dict[str, Tensor] = {}
    written: dict[tuple[int, torch.Size, tuple[int, ...], torch.dtype], Tensor] = {}
    for name, tensor in state_dict.items():
        # Some networks list a weight under several names (DynUNet does): it is stored once, as torch would.
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in written or path.suffix == ".safetensors":
            written[key] = _stored(name, tensor, half=half)
        tensors[name] = written[key]
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        torch.save(tensors, path)


def _stored(name: str, tensor: Tensor, *, half: bool) -> Tensor:
    """Return a copy of ``tensor`` as it goes into the file."""
    import torch

    kept = tensor.detach().to("cpu").contiguous().clone()
    if not half or not kept.is_floating_point():
        return kept
    halved = kept.to(torch.float16)
    if not torch.equal(torch.isfinite(halved), torch.isfinite(kept)):
        raise ModelError(f"The weight '{name}' is too large for float16.", advice="Store the weights as float32.")
    return halved


def _data_format(inputs: Sequence[InputSlot], labels: LabelTable, channels: int, window: Window) -> dict[str, Any]:
    shape = list(window.size_ijk)
    names = {label.value: label.name for label in labels}
    return {
        "inputs": {
            "image": {
                "type": "image",
                "format": "hounsfield" if any(slot.modality == "CT" for slot in inputs) else "magnitude",
                "modality": " ".join(dict.fromkeys(slot.modality for slot in inputs if slot.modality)) or "n/a",
                "num_channels": len(inputs),
                "spatial_shape": shape,
                "dtype": "float32",
                "value_range": [],
                "is_patch_data": True,
                "channel_def": {str(index): slot.name for index, slot in enumerate(inputs)},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "labels",
                "num_channels": channels,
                "spatial_shape": shape,
                "dtype": "float32",
                "value_range": [],
                "is_patch_data": True,
                "channel_def": {
                    str(value): "background" if value == 0 else names.get(value, "unused") for value in range(channels)
                },
            }
        },
    }


def _plain(value: Any, what: str) -> Any:
    try:
        return json.loads(json.dumps(value, default=_number))
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{what} cannot be written as JSON: {error}.", advice="Use numbers, texts and lists."
        ) from error


def _number(value: Any) -> Any:
    """Give JSON the plain number in a numpy scalar."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a number, a text or a list")


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, default=_number) + "\n", encoding="utf-8", newline="\n")


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return _LOWEST.get(package, "0")
