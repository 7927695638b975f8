"""The inference configuration of a MONAI bundle, written for MONAI to run and read by us as data only.

MONAI's own parser imports every ``_target_`` and evaluates every ``$`` expression. This one does neither: it knows the
few components that the pipeline does itself, reads their arguments, and refuses everything else with its name.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, ModelError, UntrustedModelError
from medseg.models.fields import Fields, is_number
from medseg.models.in_plane import crop_step, is_known_selection, read_steps, stretch_step
from medseg.models.intensity import IntensityStep, Normalize, ScalePercentiles, ScaleRange
from medseg.models.preprocessing import FitInPlane, Preprocessing, Window

if TYPE_CHECKING:
    from medseg.models.package import Postprocessing

NETWORK_MODULES = ("medseg.networks", "monai.networks.nets")
"""Where networks may come from; the same as :data:`medseg.networks.registry.ALLOWED_MODULES`, without its imports."""

_TRUST = "Nothing of it was run. Use a model from a source that you trust, or ask its author for a version without it."
_KEY = "image"
_LARGEST_ARGUMENT = 65536
"""No network needs a larger whole number; one that asks for a million layers would never be built."""

_HARMLESS_VALUES = {"$torch.float32", "$torch.float", "$np.float32", "$numpy.float32", "@device"}
"""References that bundles use for types and the device, which the pipeline chooses itself."""

_IGNORED = {"_target_", "_desc_", "keys", "allow_missing_keys", "dtype", "device", "lazy", "track_meta", "data_type"}
"""Arguments that do not change what the pipeline computes: it works in float32 on the one key ``image``."""

_KNOWN_ARGUMENTS: dict[str, set[str]] = {
    "LoadImaged": {"image_only", "ensure_channel_first", "reader", "simple_keys", "prune_meta_pattern", "meta_keys"},
    "EnsureChannelFirstd": {"strict_check", "channel_dim"},
    "Orientationd": {"axcodes", "labels", "as_closest_canonical"},
    "Spacingd": {
        "pixdim", "mode", "padding_mode", "align_corners", "diagonal", "scale_extent", "recompute_affine",
        "min_pixdim", "max_pixdim", "ensure_same_shape",
    },
    "CropForegroundd": {"source_key", "select_fn", "margin", "allow_smaller"},
    "Resized": {"spatial_size", "mode"},
    "ScaleIntensityRanged": {"a_min", "a_max", "b_min", "b_max", "clip"},
    "NormalizeIntensityd": {"subtrahend", "divisor", "nonzero", "channel_wise"},
    "ScaleIntensityRangePercentilesd": {"lower", "upper", "b_min", "b_max", "clip", "relative", "channel_wise"},
    "EnsureTyped": {"wrap_sequence"},
    "CastToTyped": set(),
    "ToTensord": {"wrap_sequence"},
}  # fmt: skip
_GRID_CHANGES = ("Orientationd", "CropForegroundd", "Spacingd", "Resized")
_NO_EFFECT = ("LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CastToTyped", "ToTensord")
_READERS = ("NibabelReader", "ITKReader", "NrrdReader", "PydicomReader", "nibabelreader", "itkreader")
_INFERER_ARGUMENTS = {
    "_target_", "_desc_", "roi_size", "overlap", "mode", "sw_batch_size", "sw_device", "device", "progress",
    "cache_roi_weight_map", "cpu_thresh", "buffer_steps", "buffer_dim", "sigma_scale", "padding_mode", "cval",
}  # fmt: skip


def inference_config(
    *,
    network_target: str,
    network_arguments: dict[str, Any],
    preprocessing: Preprocessing,
    window: Window,
    postprocessing: Postprocessing,
    label_values: tuple[int, ...],
    output_channels: int,
    weights_file: str,
) -> dict[str, Any]:
    """Return ``configs/inference.json``: ``python -m monai.bundle run --config_file configs/inference.json`` runs it.

    It segments every ``*.nii.gz`` of ``dataset_dir`` and writes labelmaps below ``output_dir``; both can be set on the
    command line (``--dataset_dir``, ``--output_dir``). The scores are brought back to the grid of the image before the
    largest is taken, as MedSeg does.
    """
    safetensors = weights_file.endswith(".safetensors")
    load: dict[str, Any] = {
        "_target_": "CheckpointLoader",
        "load_path": f"$@bundle_root + '/{weights_file}'",
        "load_dict": {"model": "@network"},
    }
    config: dict[str, Any] = {
        "imports": ["$import glob", "$import os"]
        + (["$import monai"] if preprocessing.fit_in_plane else [])
        + (["$import safetensors.torch as safetensors_torch"] if safetensors else []),
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "output_ext": ".nii.gz",
        "output_dtype": "$numpy.uint16" if max(label_values) > 255 else "$numpy.uint8",
        "output_postfix": "seg",
        "separate_folder": False,
        "datalist": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": network_target, **network_arguments},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": _transforms(preprocessing)},
        "dataset": {
            "_target_": "Dataset",
            "data": f"$[{{'{_KEY}': i}} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(window.size_ijk),
            "sw_batch_size": 1,
            "overlap": window.overlap,
            "mode": window.blend,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": _post_transforms(postprocessing, label_values, output_channels),
        },
        "handlers": [],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
    }
    if safetensors:
        config["initialize"] = [
            f"$@network.load_state_dict(safetensors_torch.load_file(@bundle_root + '/{weights_file}'))"
        ]
    else:
        config["checkpointloader"] = load
        config["initialize"] = ["$@checkpointloader(@evaluator)"]
    config["run"] = ["$@evaluator.run()"]
    return config


def _transforms(preprocessing: Preprocessing) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": _KEY},
        {"_target_": "EnsureChannelFirstd", "keys": _KEY},
        {"_target_": "Orientationd", "keys": _KEY, "axcodes": preprocessing.orientation},
    ]
    fit = preprocessing.fit_in_plane
    if fit is not None:
        steps.append(crop_step(fit, _KEY))
    if any(size is not None for size in preprocessing.spacing):
        # MONAI keeps the image's own size along an axis where the requested one is not positive.
        pixdim = [-1.0 if size is None else size for size in preprocessing.spacing]
        steps.append({"_target_": "Spacingd", "keys": _KEY, "pixdim": pixdim, "mode": "bilinear"})
    if fit is not None:
        steps.append(stretch_step(fit, _KEY))
    steps += [step.to_monai(_KEY) for step in preprocessing.intensity]
    steps.append({"_target_": "EnsureTyped", "keys": _KEY})
    return steps


def _post_transforms(
    postprocessing: Postprocessing, label_values: tuple[int, ...], output_channels: int
) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": _KEY,
            "nearest_interp": False,
            "to_tensor": True,
        },
        {
            "_target_": "AsDiscreted",
            "keys": "pred",
            **({"argmax": True} if output_channels > 1 else {"threshold": 0.0}),
        },
    ]
    values = list(label_values)
    if postprocessing.largest_component:
        steps.append({"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": values})
    if postprocessing.fill_holes:
        steps.append({"_target_": "FillHolesd", "keys": "pred", "applied_labels": values})
    steps.append(
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_ext": "@output_ext",
            "output_dtype": "@output_dtype",
            "output_postfix": "@output_postfix",
            "separate_folder": "@separate_folder",
        }
    )
    return steps


def read_network(config: Fields) -> tuple[str, dict[str, Any]]:
    """Return the network's name, in full, and its arguments.

    Raises
    ------
    UntrustedModelError
        When the network is not from :data:`NETWORK_MODULES`, or an argument is an expression or another component.
    ModelError
        When ``network_def`` is missing or not an object.
    """
    definition = config.object("network_def")
    target = network_name(definition.text("_target_", limit=200))
    arguments = {name: value for name, value in definition.data.items() if name not in ("_target_", "_desc_")}
    for name, value in arguments.items():
        if name.startswith("_") or not name.isidentifier():
            raise ModelError(
                f"The network of {config.where} has the argument '{name}', which MedSeg does not know.",
                advice="Ask the author of the model for a version that leaves it out.",
            )
        check_plain(value, f"the argument '{name}' of the network")
    return target, arguments


def network_name(target: str) -> str:
    """Return ``target`` in full (``UNet`` becomes ``monai.networks.nets.UNet``).

    Raises
    ------
    UntrustedModelError
        When it is not a class of :data:`NETWORK_MODULES`.
    """
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", target):
        return f"monai.networks.nets.{target}"
    inner = re.fullmatch(r"monai\.networks\.nets\.[a-z0-9_]+\.([A-Z][A-Za-z0-9_]*)", target)
    if inner:
        return f"monai.networks.nets.{inner.group(1)}"
    module, _, name = target.rpartition(".")
    if module not in NETWORK_MODULES or not re.fullmatch(r"[A-Z][A-Za-z0-9_]*", name):
        raise UntrustedModelError(
            f"The model would run '{target}' as its network, which is not on the list of networks that MedSeg runs.",
            advice=_TRUST,
        )
    return target


def check_plain(value: Any, what: str, depth: int = 0) -> None:
    """Raise :class:`UntrustedModelError` when ``value`` holds an expression, a reference or a component to build."""
    if depth > 20:
        raise ModelError(f"{what[:1].upper()}{what[1:]} is nested too deeply.", advice="The package is damaged.")
    if isinstance(value, str):
        if value.startswith(("$", "@", "%")) and value not in _HARMLESS_VALUES:
            raise UntrustedModelError(f"The model would run {value[:200]!r} ({what}).", advice=_TRUST)
    elif isinstance(value, list):
        for item in value:
            check_plain(item, what, depth + 1)
    elif isinstance(value, dict):
        if "_target_" in value:
            raise UntrustedModelError(f"The model would run '{str(value['_target_'])[:200]}' ({what}).", advice=_TRUST)
        for item in value.values():
            check_plain(item, what, depth + 1)
    elif isinstance(value, int) and abs(value) > _LARGEST_ARGUMENT:
        raise ModelError(f"{what[:1].upper()}{what[1:]} is too large.", advice="The package is damaged.")
    elif value is not None and not isinstance(value, bool) and not is_number(value):
        raise ModelError(f"{what[:1].upper()}{what[1:]} is {value!r}, which is no number.", advice="Correct the model.")


def read_preprocessing(config: Fields) -> Preprocessing:
    """Return the preprocessing that ``preprocessing.transforms`` describes.

    Raises
    ------
    UntrustedModelError
        When a transform is an expression or a component outside MONAI's transforms.
    ModelError
        When a transform, its arguments or its place are not ones that the pipeline does.
    """
    compose = config.object("preprocessing")
    if _short(compose.text("_target_", limit=200), compose) != "Compose" or not set(compose.data) <= {
        "_target_",
        "_desc_",
        "transforms",
    }:
        raise compose.fail("_target_", "a Compose with transforms only")
    grid = _GridSteps()
    steps: list[IntensityStep] = []
    for entry in compose.objects("transforms"):
        name = _known_transform(entry)
        if name in _NO_EFFECT:
            continue
        if steps and name in _GRID_CHANGES:
            raise _unsupported(entry, f"{name} after a change of the intensities")
        try:
            if name in _GRID_CHANGES:
                grid.take(name, entry)
            else:
                steps.append(_intensity(name, entry))
        except InputError as error:
            raise ModelError(f"{error.message} ({entry.where})", advice=error.advice) from error
    if not grid.orientation:
        raise ModelError(
            f"The preprocessing of {config.where} does not say in which orientation the network sees the image.",
            advice="Add an Orientationd.",
        )
    if grid.crop is not None and grid.fit is None:
        raise _unsupported(grid.crop, "CropForegroundd without a Resized after it")
    try:
        return Preprocessing(grid.orientation, grid.spacing or (None, None, None), tuple(steps), grid.fit)
    except InputError as error:
        raise ModelError(f"{error.message} ({config.where})", advice=error.advice) from error


@dataclasses.dataclass
class _GridSteps:
    """What the steps read so far do to the grid."""

    orientation: str = ""
    spacing: tuple[float | None, float | None, float | None] | None = None
    crop: Fields | None = None
    fit: FitInPlane | None = None

    def take(self, name: str, entry: Fields) -> None:
        """Add a step; raise :class:`ModelError` when the pipeline does not do it in this place."""
        if name == "Orientationd":
            if self.orientation or self.spacing:
                raise _unsupported(entry, "Orientationd after another change of the grid")
            self.orientation = _orientation(entry)
        elif name == "CropForegroundd":
            if self.crop or self.spacing or not self.orientation:
                raise _unsupported(entry, "CropForegroundd in another place than after one Orientationd")
            self.crop = entry
        elif name == "Spacingd":
            if self.spacing or self.fit or not self.orientation:
                raise _unsupported(entry, "Spacingd without one Orientationd before it")
            self.spacing = _spacing(entry)
        else:
            if self.crop is None or self.fit:
                raise _unsupported(entry, "Resized without one CropForegroundd before it")
            self.fit = read_steps(self.crop, entry)


def read_window(config: Fields) -> Window:
    """Return the sliding window that ``inferer`` describes.

    Raises
    ------
    UntrustedModelError
        When the inferer is a component outside MONAI or an argument is an expression.
    ModelError
        When it is not a sliding window over three axes that the pipeline can do.
    """
    inferer = config.object("inferer")
    target = inferer.text("_target_", limit=200)
    if target not in ("SlidingWindowInferer", "monai.inferers.SlidingWindowInferer"):
        if re.fullmatch(r"[A-Za-z]+|monai\.inferers\.[A-Za-z]+", target):
            raise _unsupported(inferer, target)
        raise UntrustedModelError(f"The model would run '{target}' as its inferer.", advice=_TRUST)
    for name, value in inferer.data.items():
        if name not in _INFERER_ARGUMENTS:
            raise _unsupported(inferer, f"SlidingWindowInferer with '{name}'")
        check_plain(value, f"the argument '{name}' of the inferer")
    for name, usual in (("sigma_scale", 0.125), ("padding_mode", "constant"), ("cval", 0)):
        if inferer.data.get(name, usual) != usual:
            raise _unsupported(inferer, f"SlidingWindowInferer with {name} other than {usual}")
    size = inferer.data.get("roi_size")
    size = [size] * 3 if is_number(size) else size
    if not isinstance(size, list) or len(size) != 3 or not all(isinstance(item, int) for item in size):
        raise inferer.fail("roi_size", "three whole numbers")
    overlap = inferer.number("overlap", 0.25, low=0.0, high=0.95)
    mode = inferer.text("mode", "constant", limit=20)
    if mode not in ("constant", "gaussian"):
        raise _unsupported(inferer, f"SlidingWindowInferer with the mode '{mode}'")
    try:
        return Window((size[0], size[1], size[2]), overlap, mode)
    except InputError as error:
        raise ModelError(f"{error.message} ({inferer.where})", advice=error.advice) from error


def _short(target: str, entry: Fields) -> str:
    """Return the bare name of a MONAI transform, of which MONAI accepts a short and a dotted spelling."""
    match = re.fullmatch(r"(?:monai\.transforms\.)?([A-Za-z][A-Za-z0-9]*)", target)
    if not match:
        raise UntrustedModelError(f"The model would run '{target}' ({entry.where}).", advice=_TRUST)
    name = match.group(1)
    return re.sub(r"(Dict|D)$", "d", name)


def _known_transform(entry: Fields) -> str:
    name = _short(entry.text("_target_", limit=200), entry)
    known = _KNOWN_ARGUMENTS.get(name)
    if known is None:
        raise _unsupported(entry, name)
    for argument, value in entry.data.items():
        if not (name == "CropForegroundd" and argument == "select_fn" and is_known_selection(value)):
            check_plain(value, f"the argument '{argument}' of {name}")
        if argument not in known and argument not in _IGNORED:
            raise _unsupported(entry, f"{name} with '{argument}'")
    if entry.data.get("keys") not in (_KEY, [_KEY]):
        raise _unsupported(entry, f"{name} of other keys than '{_KEY}'")
    if name == "LoadImaged" and entry.data.get("reader") not in (None, *_READERS):
        raise UntrustedModelError(
            f"The model would read images with {str(entry.data['reader'])[:200]!r}.", advice=_TRUST
        )
    return name


def _unsupported(entry: Fields, what: str) -> ModelError:
    return ModelError(
        f"The model asks for a step that MedSeg does not do: {what} ({entry.where}).",
        advice="Update MedSeg, or ask the author of the model for a version without it.",
    )


def _orientation(entry: Fields) -> str:
    if entry.data.get("as_closest_canonical") is True:
        return "RAS"
    labels = entry.data.get("labels")
    if labels not in (None, [["L", "R"], ["P", "A"], ["I", "S"]]):
        raise _unsupported(entry, "Orientationd with labels of its own")
    return entry.text("axcodes", limit=3)


def _spacing(entry: Fields) -> tuple[float | None, float | None, float | None]:
    if entry.data.get("mode", "bilinear") not in ("bilinear", ["bilinear"], 1, [1]):
        raise _unsupported(entry, "Spacingd with another mode than bilinear")
    if any(entry.data.get(name) for name in ("diagonal", "scale_extent", "min_pixdim", "max_pixdim")):
        raise _unsupported(entry, "Spacingd with diagonal, scale_extent, min_pixdim or max_pixdim")
    if entry.data.get("padding_mode", "border") not in ("border", ["border"], "nearest"):
        raise _unsupported(entry, "Spacingd with another padding than border")
    pixdim = entry.triple("pixdim", low=-100, high=100)
    if pixdim is None:
        raise entry.fail("pixdim", "a list of three numbers")
    sizes = [size if size > 0 else None for size in pixdim]
    return sizes[0], sizes[1], sizes[2]


def _intensity(name: str, entry: Fields) -> IntensityStep:
    if name == "ScaleIntensityRanged":
        return ScaleRange(entry.number("a_min"), entry.number("a_max"), **_target_range(entry))
    if name == "ScaleIntensityRangePercentilesd":
        if entry.data.get("relative"):
            raise _unsupported(entry, f"{name} with relative")
        return ScalePercentiles(entry.number("lower"), entry.number("upper"), **_target_range(entry))
    mean, std = (_first(entry, argument) for argument in ("subtrahend", "divisor"))
    return Normalize(mean, std, entry.flag("nonzero", False))


def _target_range(entry: Fields) -> dict[str, Any]:
    return {
        "b_min": entry.number("b_min"),
        "b_max": entry.number("b_max"),
        "clip": entry.flag("clip", False),
    }


def _first(entry: Fields, name: str) -> float | None:
    """Return a number that MONAI also takes as a list of one (``channel_wise``)."""
    value = entry.data.get(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return None
    if not is_number(value):
        raise entry.fail(name, "a number")
    return float(value)
