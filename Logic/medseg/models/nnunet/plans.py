"""The ``plans.json`` of nnU-Net v2, read as data: one configuration, in the current and in older forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import ModelError
from medseg.models.fields import Fields, is_number
from medseg.models.nnunet.preparation import ANISOTROPY, SCHEMES, NnunetPreparation, Normalisation, Resampling

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADVICE = "Update MedSeg, or ask the author of the model for a version trained with nnU-Net's own parts."
_CANONICAL = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
_AS_STORED = ("SimpleITKIO", "NibabelIO", "Tiff3DIO", "NaturalImage2DIO")
_SPLINE = ("resample_data_or_seg_to_shape", "resample_data_or_seg_to_spacing")
_TORCH, _KEEP = "resample_torch_fornnunet", "no_resampling_hack"
_NETWORKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
_MOST_STAGES, _WIDEST = 12, 4096
_MOST_PARENTS = 8


@dataclass(frozen=True)
class Configuration:
    """One configuration of the plans.

    Attributes
    ----------
    name
        "2d", "3d_fullres", ...
    patch
        Voxels of a window along the network's axes; the first is 1 for a two-dimensional network.
    spatial_dims
        2 or 3.
    previous_stage
        The configuration whose labels are further input channels; empty: there is none.
    preparation
        How images are prepared; the labels of a first stage are not filled in.
    network_target, network_arguments
        What :func:`medseg.networks.build_network` takes, but for the channels.
    """

    name: str
    patch: tuple[int, int, int]
    spatial_dims: int
    previous_stage: str
    preparation: NnunetPreparation
    network_target: str
    network_arguments: dict[str, Any]


def configuration_names(plans: Fields) -> tuple[str, ...]:
    """Return the names of the configurations that the plans have."""
    return tuple(str(name) for name in plans.object("configurations").data)


def read_configuration(plans: Fields, name: str, channels: int, trainer: str) -> Configuration:
    """Return the configuration ``name`` of the plans for images of ``channels`` channels, trained by ``trainer``.

    Raises
    ------
    ModelError
        When the plans lack it, contradict themselves, or ask for parts that MedSeg does not have.
    """
    _refuse_other(plans, "label_manager", "LabelManager", "label manager")
    fields = _inherited(plans, name)
    _refuse_other(fields, "preprocessor_name", "DefaultPreprocessor", "preprocessor")
    patch, spacing = _numbers(fields, "patch_size", 1, 4096), _numbers(fields, "spacing", 1e-4, 1e4)
    dims = len(patch)
    if len(spacing) != dims:
        raise fields.fail("spacing", f"{dims} numbers, as many as 'patch_size' has")
    whole = [int(size) for size in patch]
    steps: list[float | None] = [None] * (3 - dims) + list(spacing)
    preparation = NnunetPreparation(
        canonical=_is_canonical(plans),
        transpose=_transpose(plans),
        spacing=(steps[0], steps[1], steps[2]),
        channels=_channels(plans, fields, channels),
        images=_resampling(fields, "resampling_fn_data", 3),
        scores=_scores(fields),
        labels=_resampling(fields, "resampling_fn_seg", 1),
    )
    target, arguments = _network(fields, dims, trainer)
    padded = [1] * (3 - dims) + whole
    return Configuration(
        name=name,
        patch=(padded[0], padded[1], padded[2]),
        spatial_dims=dims,
        previous_stage=fields.text("previous_stage", "", limit=100) if fields.has("previous_stage") else "",
        preparation=preparation,
        network_target=target,
        network_arguments=arguments,
    )


def _refuse_other(fields: Fields, key: str, usual: str, what: str) -> None:
    if fields.has(key) and fields.data[key] != usual:
        raise _unsupported(fields, f"the {what} '{str(fields.data[key])[:80]}'")


def _unsupported(fields: Fields, what: str) -> ModelError:
    return ModelError(f"The model uses {what}, which MedSeg does not have ({fields.where}).", advice=_ADVICE)


def _inherited(plans: Fields, name: str) -> Fields:
    """Return a configuration with what it inherits from others."""
    configurations = plans.object("configurations")
    chain: list[dict[str, Any]] = []
    current: str | None = name
    while current is not None:
        if len(chain) >= _MOST_PARENTS:
            raise configurations.fail(name, "a configuration that does not inherit from itself")
        found = configurations.object(current)
        chain.append(found.data)
        current = found.text("inherits_from", limit=100) if found.has("inherits_from") else None
    merged: dict[str, Any] = {}
    for data in reversed(chain):
        merged.update(data)
    return Fields(merged, f"the configuration '{name}' of {plans.where}")


def _numbers(fields: Fields, name: str, low: float, high: float) -> list[float]:
    value = fields.data.get(name)
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise fields.fail(name, "a list of two or three numbers")
    if not all(is_number(item) and low <= item <= high for item in value):
        raise fields.fail(name, f"a list of numbers from {low:g} to {high:g}")
    return [float(item) for item in value]


def _is_canonical(plans: Fields) -> bool:
    reader = plans.text("image_reader_writer", "SimpleITKIO", limit=200)
    if reader not in (*_CANONICAL, *_AS_STORED):
        raise _unsupported(plans, f"the image reader '{reader}'")
    return reader in _CANONICAL


def _transpose(plans: Fields) -> tuple[int, int, int]:
    value = plans.data.get("transpose_forward", [0, 1, 2])
    if not isinstance(value, list) or sorted(map(str, value)) != ["0", "1", "2"]:
        raise plans.fail("transpose_forward", "the numbers 0, 1 and 2 in some order")
    return int(value[0]), int(value[1]), int(value[2])


def _channels(plans: Fields, fields: Fields, count: int) -> tuple[Normalisation, ...]:
    schemes, masks = fields.texts("normalization_schemes"), fields.data.get("use_mask_for_norm") or [False] * count
    if len(schemes) < count or not isinstance(masks, list) or len(masks) < count:
        raise fields.fail("normalization_schemes", f"{count} names, with as many entries of 'use_mask_for_norm'")
    old, new = "foreground_intensity_properties_by_modality", "foreground_intensity_properties_per_channel"
    properties = plans.object(new if plans.has(new) else old, required=False)
    found = []
    for channel, (scheme, masked) in enumerate(zip(schemes[:count], masks[:count], strict=True)):
        if scheme not in SCHEMES:
            raise _unsupported(fields, f"the normalisation '{scheme[:80]}'")
        numbers = {}
        if SCHEMES[scheme] == "ct":
            of_channel = properties.object(str(channel))
            numbers = {
                "mean": of_channel.number("mean"),
                "std": of_channel.number("std", low=0.0),
                "low": of_channel.number("percentile_00_5"),
                "high": of_channel.number("percentile_99_5"),
            }
        found.append(Normalisation(SCHEMES[scheme], masked is True, **numbers))
    return tuple(found)


def _resampling(fields: Fields, name: str, usual_order: int) -> Resampling:
    function = fields.text(name, _SPLINE[0], limit=200)
    settings = fields.object(f"{name}_kwargs", required=False)
    if function == _KEEP:
        return Resampling(keep=True)
    separate = settings.data.get("force_separate_z")
    if separate not in (None, True, False):
        raise settings.fail("force_separate_z", "true, false or null")
    anisotropy = settings.number("separate_z_anisotropy_threshold", ANISOTROPY, low=1.0, high=1e6)
    if function == _TORCH:
        for key, usual in (("mode", "linear"), ("aniso_axis_mode", "nearest-exact")):
            if settings.data.get(key, usual) != usual:
                raise _unsupported(settings, f"the resampling '{function}' with {key} '{settings.data[key]}'")
        return Resampling(1, 0, separate, anisotropy)
    if function not in _SPLINE:
        raise _unsupported(fields, f"the resampling '{function[:80]}'")
    orders = settings.whole("order", usual_order, low=0, high=5), settings.whole("order_z", 0, low=0, high=5)
    if not set(orders) <= {0, 1, 3}:
        raise _unsupported(settings, f"splines of the orders {orders[0]} and {orders[1]}")
    return Resampling(*orders, separate, anisotropy)


def _scores(fields: Fields) -> Resampling:
    found = _resampling(fields, "resampling_fn_probabilities", 1)
    if 3 in (found.order, found.order_z):
        # Scores are interpolated slab by slab, between two slices.
        raise _unsupported(fields, "cubic interpolation of scores")
    return found


def _network(fields: Fields, dims: int, trainer: str) -> tuple[str, dict[str, Any]]:
    if fields.has("architecture"):
        architecture = fields.object("architecture")
        name = architecture.text("network_class_name", limit=200).rpartition(".")[2]
        given = architecture.object("arch_kwargs")
    else:
        name = fields.text("UNet_class_name", limit=200)
        given = _old_arguments(fields, dims, name)
    if name not in _NETWORKS:
        raise _unsupported(fields, f"the network '{name[:80]}'")
    stages = given.whole("n_stages", low=2, high=_MOST_STAGES)
    arguments = {
        "spatial_dims": dims,
        "features": _per_stage(given, "features_per_stage", stages, _WIDEST),
        "kernel_sizes": _sizes(given, "kernel_sizes", stages, dims),
        "strides": _sizes(given, "strides", stages, dims),
        "blocks": _per_stage(given, _NETWORKS[name], stages, 64),
        "decoder_convs": _per_stage(given, "n_conv_per_stage_decoder", stages - 1, 64),
        "bias": given.flag("conv_bias", default=False),
        **_layers(given, dims),
    }
    if trainer == "nnUNetTrainerBN":
        # That trainer exchanges the normalisation of the plans for this one.
        arguments.update(norm="BatchNorm", norm_arguments={"eps": 1e-5, "affine": True})
    if name == "PlainConvUNet":
        arguments["activation_first"] = given.flag("nonlin_first", default=False)
    else:
        if not str(given.data.get("block", "BasicBlockD")).endswith("BasicBlockD"):
            raise _unsupported(given, f"the block '{str(given.data['block'])[:80]}'")
        arguments["stem_channels"] = (
            given.whole("stem_channels", low=1, high=_WIDEST) if given.has("stem_channels") else None
        )
    return f"medseg.networks.{name}", arguments


def _layers(given: Fields, dims: int) -> dict[str, Any]:
    if given.text("conv_op", f"Conv{dims}d", limit=200).rpartition(".")[2] != f"Conv{dims}d":
        raise given.fail("conv_op", f"a convolution of {dims} dimensions, as 'patch_size' has")
    norm = given.text("norm_op", limit=200).rpartition(".")[2] if given.has("norm_op") else None
    norms = {f"{kind}{dims}d": kind for kind in ("InstanceNorm", "BatchNorm")}
    if norm is not None and norm not in norms:
        raise _unsupported(given, f"the normalisation layer '{norm[:80]}'")
    activation = given.text("nonlin", limit=200).rpartition(".")[2] if given.has("nonlin") else None
    return {
        "norm": None if norm is None else norms[norm],
        "norm_arguments": _plain(given.object("norm_op_kwargs", required=False)),
        "activation": activation,
        "activation_arguments": _plain(given.object("nonlin_kwargs", required=False)),
    }


def _plain(fields: Fields) -> dict[str, Any]:
    """Return keyword arguments that are numbers, texts or truth values."""
    for name, value in fields.data.items():
        if not isinstance(value, (bool, str)) and not is_number(value):
            raise fields.fail(name, "a number, a text, true or false")
    return dict(fields.data)


def _old_arguments(fields: Fields, dims: int, name: str) -> Fields:
    """Return the network's arguments as newer plans have them, from plans that give numbers of features only."""
    counts = fields.data.get("n_conv_per_stage_encoder")
    if not isinstance(counts, list) or not 2 <= len(counts) <= _MOST_STAGES:
        raise fields.fail("n_conv_per_stage_encoder", "a list of numbers, one a stage")
    base = fields.whole("UNet_base_num_features", low=1, high=_WIDEST)
    most = fields.whole("unet_max_num_features", low=1, high=_WIDEST)
    return Fields(
        {
            "n_stages": len(counts),
            "features_per_stage": [min(base * 2**stage, most) for stage in range(len(counts))],
            "kernel_sizes": fields.data.get("conv_kernel_sizes"),
            "strides": fields.data.get("pool_op_kernel_sizes"),
            _NETWORKS.get(name, "n_conv_per_stage"): counts,
            "n_conv_per_stage_decoder": fields.data.get("n_conv_per_stage_decoder"),
            "conv_bias": True,
            "norm_op": f"InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        fields.where,
    )


def _per_stage(given: Fields, name: str, stages: int, most: int) -> list[int]:
    value = given.data.get(name)
    value = [value] * stages if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(value, list) or len(value) != stages or not all(_is_count(item, most) for item in value):
        raise given.fail(name, f"{stages} whole numbers from 1 to {most}")
    return value


def _sizes(given: Fields, name: str, stages: int, dims: int) -> list[list[int]]:
    value = given.data.get(name)
    value = [value] * stages if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(value, list) or len(value) != stages:
        raise given.fail(name, f"{stages} entries, one a stage")
    rows = [[item] * dims if _is_count(item, 64) else item for item in value]
    for row in rows:
        if not isinstance(row, list) or len(row) != dims or not all(_is_count(item, 64) for item in row):
            raise given.fail(name, f"numbers from 1 to 64, {dims} a stage")
    return rows


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def channel_names(dataset: Fields) -> tuple[str, ...]:
    """Return the names of the input images, in the order of the network's channels.

    Raises
    ------
    ModelError
        When ``dataset.json`` does not number them from 0.
    """
    key = "channel_names" if dataset.has("channel_names") else "modality"
    names: Mapping[str, Any] = dataset.object(key).data
    found = [names.get(str(index)) for index in range(len(names))]
    if not found or not all(isinstance(name, str) and name.strip() for name in found):
        raise dataset.fail(key, "names numbered from 0")
    return tuple(str(name).strip()[:100] for name in found)
