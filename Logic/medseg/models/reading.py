"""Read a model package from its folder, as data only."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from medseg.errors import InputError, ModelError
from medseg.labels import LabelTable, read_labels
from medseg.models.bundle import read_network, read_preprocessing, read_window
from medseg.models.choices import ChoiceError
from medseg.models.correction import CORRECT, correction_preprocessing, read_correction
from medseg.models.fields import Fields, inside, is_number, read_json
from medseg.models.instances import read_instances
from medseg.models.nnunet.folder import is_nnunet, read_nnunet
from medseg.models.package import VERBS, InputSlot, Measured, ModelPackage, Postprocessing, WeightsFile
from medseg.models.preprocessing import Window
from medseg.models.registration import REGISTER, read_registration

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
"""The version of the package format; a package with a higher one was made for a later MedSeg."""

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
LABELS = "labels.csv"
WEIGHTS_ENDINGS = (".pt", ".safetensors")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LARGEST_WEIGHTS = 1 << 40


def read_package(folder: str | Path, choices: Mapping[str, str] | None = None) -> ModelPackage:
    """Read a model package; neither torch nor MONAI is needed, and nothing of the package is run.

    The weights themselves are not opened: whether they are there is in :meth:`ModelPackage.problems`, and their hash
    is checked when they are loaded.

    Parameters
    ----------
    folder
        A MONAI bundle with ``configs/metadata.json`` (with the section ``medseg``), ``configs/inference.json`` and
        ``labels.csv``; or a results folder of nnU-Net v2.
    choices
        What was chosen of a model that offers a choice (:func:`medseg.models.choose`).

    Raises
    ------
    ModelError
        When a file is missing, damaged, contradicts another or asks for what MedSeg does not do.
    UntrustedModelError
        When the package would run code of its own; the sentence names it.
    ChoiceError
        When something was chosen that there is not.
    """
    try:
        path = Path(folder).absolute()
        return read_nnunet(path, choices or {}) if is_nnunet(path) else _read(path)
    except (ModelError, ChoiceError):
        raise
    except InputError as error:
        raise ModelError(f"{error.message} (model package {folder})", advice=error.advice) from error
    except RecursionError as error:
        raise ModelError(
            f"The model package {folder} is nested too deeply.", advice="The package is damaged; install it again."
        ) from error


def _read(folder: Path) -> ModelPackage:
    if not _is_folder(folder):
        raise ModelError(
            f"There is no model package at {str(folder)!r}.", advice="Give the folder of a model, or its name."
        )
    metadata = read_json(folder, METADATA)
    if not metadata.has("medseg"):
        raise ModelError(
            f"{folder} is a MONAI bundle without the section 'medseg' in {METADATA}.",
            advice="MedSeg runs packages that were written by 'medseg train' or converted for it.",
        )
    medseg = metadata.object("medseg")
    if medseg.whole("format", FORMAT, low=1, high=10**6) > FORMAT:
        raise ModelError(f"The model package {folder} was made for a later MedSeg.", advice="Update MedSeg.")
    config = read_json(folder, INFERENCE)
    network_target, network_arguments = read_network(config)
    labels_file = inside(folder, LABELS)
    if not labels_file.is_file():
        raise ModelError(f"The model package {folder} has no {LABELS}.", advice="Install the model again.")
    labels = read_labels(labels_file)
    inputs = tuple(_input(slot) for slot in medseg.objects("inputs"))
    verb = _verb(medseg)
    registration, correction = None, None
    if verb == REGISTER:
        registration, preprocessing = read_registration(medseg)
        channels, window = _pair_format(metadata, len(inputs))
    elif verb == CORRECT:
        correction, window = read_correction(medseg, metadata)
        channels, preprocessing = 1, correction_preprocessing()
    else:
        preprocessing = read_preprocessing(config)
        channels, window = _channels(metadata, len(inputs), labels), read_window(config)
    return ModelPackage(
        folder=folder,
        name=_name(medseg),
        title=medseg.text("title", limit=200),
        description=metadata.text("description"),
        version=metadata.text("version", limit=60),
        license=medseg.text("license", limit=200),
        verb=verb,
        inputs=inputs,
        labels=labels,
        output_channels=channels,
        network_target=network_target,
        network_arguments=network_arguments,
        preprocessing=preprocessing,
        window=window,
        weights=_weights(folder, medseg.object("weights")),
        postprocessing=_postprocessing(medseg.object("postprocessing", required=False)),
        measured=_measured(medseg.object("measured", required=False)),
        anatomy=medseg.texts("anatomy"),
        authors=metadata.text("authors", ""),
        citation=medseg.text("citation", ""),
        metrics=_metrics(metadata.object("eval_metrics", required=False)),
        requires=_requires(medseg.object("requires", required=False)),
        instances=read_instances(medseg),
        slice_spacing_range=_slice_spacings(medseg),
        registration=registration,
        correction=correction,
    )


def _is_folder(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except (OSError, ValueError):
        # A name with a null character or one too long for the file system.
        return False


def _name(medseg: Fields) -> str:
    name = medseg.text("name", limit=64)
    if not NAME.fullmatch(name):
        raise medseg.fail("name", "lower-case words joined by hyphens")
    return name


def _verb(medseg: Fields) -> str:
    verb = medseg.text("verb", limit=40)
    if verb not in VERBS:
        raise ModelError(
            f"'verb' in {medseg.where} is '{verb}'; this MedSeg knows {', '.join(VERBS)}.", advice="Update MedSeg."
        )
    return verb


def _input(slot: Fields) -> InputSlot:
    return InputSlot(
        name=slot.text("name", "image", limit=100),
        modality=slot.text("modality", "", limit=16).upper(),
        description=slot.text("description", "", limit=2000),
        minimum_slices=slot.whole("minimum_slices", 2, low=1, high=10_000),
    )


def _channels(metadata: Fields, inputs: int, labels: LabelTable) -> int:
    formats = metadata.object("network_data_format")
    taken = formats.object("inputs").object("image").whole("num_channels", low=1, high=64)
    if not 1 <= inputs == taken:
        raise ModelError(
            f"{metadata.where} lists {inputs} inputs for a network of {taken} input channels.",
            advice="The package contradicts itself; ask its author for a corrected one.",
        )
    given = formats.object("outputs").object("pred").whole("num_channels", low=1, high=65536)
    if labels.values[-1] >= max(given, 2):
        raise ModelError(
            f"{LABELS} has the value {labels.values[-1]}, but the network of {metadata.where} gives values up to "
            f"{max(given, 2) - 1} only.",
            advice="The package contradicts itself; ask its author for a corrected one.",
        )
    return given


def _pair_format(metadata: Fields, inputs: int) -> tuple[int, Window]:
    """Return the channels of the field and the size that the network was trained on, of a package that registers."""
    formats = metadata.object("network_data_format")
    fixed = formats.object("inputs").object("fixed")
    moving = formats.object("inputs").object("moving")
    field = formats.object("outputs").object("pred").whole("num_channels", low=1, high=65536)
    taken = [one.whole("num_channels", low=1, high=64) for one in (fixed, moving)]
    if inputs != 2 or taken != [1, 1] or field != 3:
        raise ModelError(
            f"{metadata.where} does not describe two images of one channel and a displacement field of three.",
            advice="The package contradicts itself; ask its author for a corrected one.",
        )
    size = fixed.triple("spatial_shape", low=1, high=4096)
    if size is None:
        raise fixed.fail("spatial_shape", "a list of three numbers")
    return field, Window((int(size[0]), int(size[1]), int(size[2])))


def _weights(folder: Path, weights: Fields) -> WeightsFile:
    file = weights.text("file", limit=300)
    path = inside(folder, file)
    if PurePosixPath(file).suffix not in WEIGHTS_ENDINGS:
        raise weights.fail("file", f"a file that ends in {' or '.join(WEIGHTS_ENDINGS)}")
    digest = weights.text("sha256", limit=64).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise weights.fail("sha256", "64 hexadecimal digits")
    return WeightsFile(path, digest, weights.whole("bytes", low=1, high=_LARGEST_WEIGHTS))


def _postprocessing(steps: Fields) -> Postprocessing:
    return Postprocessing(
        largest_component=steps.flag("largest_component", default=False),
        fill_holes=steps.flag("fill_holes", default=False),
        minimum_volume_ml=steps.number("minimum_volume_ml", 0.0, low=0.0, high=1e6),
    )


def _measured(measured: Fields) -> Measured:
    size = measured.triple("size", low=1, high=100_000)
    return Measured(
        seconds_cpu=measured.optional_number("seconds_cpu", low=0),
        seconds_gpu=measured.optional_number("seconds_gpu", low=0),
        memory_mb_cpu=measured.optional_number("memory_mb_cpu", low=0),
        size=(int(size[0]), int(size[1]), int(size[2])) if size else None,
        spacing=measured.triple("spacing", low=0.001, high=1000),
    )


def _slice_spacings(medseg: Fields) -> tuple[float, float] | None:
    if not medseg.has("slice_spacing_range"):
        return None
    value = medseg.data["slice_spacing_range"]
    if not isinstance(value, list) or len(value) != 2 or not all(is_number(item) for item in value):
        raise medseg.fail("slice_spacing_range", "two numbers")
    if not 0.001 <= value[0] <= value[1] <= 1000:
        raise medseg.fail("slice_spacing_range", "two ascending numbers from 0.001 to 1000")
    return float(value[0]), float(value[1])


def _metrics(metrics: Fields) -> dict[str, float]:
    return {str(name)[:100]: metrics.number(name) for name in metrics.data}


def _requires(requires: Fields) -> dict[str, str]:
    versions = {}
    for name in requires.data:
        version = requires.text(name, limit=40)
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,60}", name) or not re.match(r"[0-9]", version):
            raise requires.fail(name, "a package with its lowest version")
        versions[name] = version
    return versions
