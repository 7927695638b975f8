"""A model package: everything that is known about a model without running any of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, ModelError
from medseg.models.instances import Instances, check_instances
from medseg.models.intensity import IntensityStep, apply_steps
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medseg.labels import LabelTable

VERBS = ("segment",)
BLENDS = ("gaussian", "constant")
_AXIS_PAIRS = ("LR", "PA", "IS")


@dataclass(frozen=True)
class InputSlot:
    """One image that the model takes.

    Attributes
    ----------
    name, description
        What the user reads beside the slot.
    modality
        DICOM's name ("CT", "MR"); empty: any.
    minimum_slices
        The fewest slices (voxels along the shortest axis) that make sense.
    """

    name: str = "image"
    modality: str = ""
    description: str = ""
    minimum_slices: int = 2


@dataclass(frozen=True)
class FitInPlane:
    """Show the network the box of the body in the plane of i and j, stretched to a fixed number of voxels.

    The box holds every voxel above the threshold, over all slices; the stretch differs from image to image and between
    i and j. Melander and Thånell 2024 (master's thesis 2024:E46), preprocessing; that the box is not cut along k is our
    choice, as is the whole plane where nothing is above the threshold.

    Attributes
    ----------
    size
        Voxels along i and j of the network's orientation.
    threshold
        In the unit of the image; -200 HU in the thesis.
    largest_component
        Take only the largest connected part above the threshold, which leaves out the couch (not in the thesis).

    Raises
    ------
    InputError
        When the size is not two numbers from 1 to 4096 or the threshold is not finite.
    """

    size: tuple[int, int]
    threshold: float = -200.0
    largest_component: bool = False

    def __post_init__(self) -> None:
        if len(self.size) != 2 or not all(isinstance(size, int) and 1 <= size <= 4096 for size in self.size):
            raise InputError(
                f"The in-plane size {self.size} of the model is not two sizes from 1 to 4096 voxels.",
                advice="Correct the model.",
            )
        if not math.isfinite(self.threshold):
            raise InputError(
                f"The body threshold {self.threshold} of the model is not a finite number.", advice="Correct the model."
            )


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of the network, in this order.

    Attributes
    ----------
    orientation
        Letters of the i, j, k axes, the direction in which the index increases ("RAS").
    spacing
        Voxel size along i, j, k of that orientation in mm; ``None`` keeps the image's own. Linear interpolation.
    intensity
        Steps that follow the resampling.
    fit_in_plane
        When given, what decides the field of view and the voxel size along i and j, whose ``spacing`` is then ``None``.

    Raises
    ------
    InputError
        When the orientation does not name three axes, a spacing is not positive, or i or j has both a spacing and a
        fixed number of voxels.
    """

    orientation: str = "RAS"
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    intensity: tuple[IntensityStep, ...] = ()
    fit_in_plane: FitInPlane | None = None

    def __post_init__(self) -> None:
        pairs = sorted(next((pair for pair in _AXIS_PAIRS if letter in pair), "") for letter in self.orientation)
        if pairs != sorted(_AXIS_PAIRS):
            raise InputError(
                f"'{self.orientation}' is not an orientation.",
                advice="Name each of left/right, posterior/anterior and inferior/superior once, such as RAS.",
            )
        if len(self.spacing) != 3 or any(size is not None and not 0.01 <= size <= 100 for size in self.spacing):
            raise InputError(
                f"The spacing {self.spacing} of the model is not three sizes from 0.01 to 100 mm.",
                advice="Correct the model.",
            )
        if self.fit_in_plane is not None and self.spacing[:2] != (None, None):
            raise InputError(
                "The model gives the plane both a spacing and a fixed number of voxels.",
                advice="Leave the first two spacings open (null) with fit_in_plane.",
            )

    def apply_intensity(self, array: Any) -> Any:
        """Return ``array`` (any axis order) as a new float32 array after the intensity steps."""
        return apply_steps(self.intensity, array)


@dataclass(frozen=True)
class Window:
    """The sliding window: size in voxels along i, j, k, overlap as a part of the size (0 to 0.95), and its blending."""

    size_ijk: tuple[int, int, int]
    overlap: float = 0.5
    blend: str = "gaussian"

    def __post_init__(self) -> None:
        if len(self.size_ijk) != 3 or not all(isinstance(size, int) and 1 <= size <= 4096 for size in self.size_ijk):
            raise InputError(
                f"The window {self.size_ijk} is not three sizes from 1 to 4096 voxels.", advice="Correct the model."
            )
        if not 0 <= self.overlap <= 0.95 or self.blend not in BLENDS:
            raise InputError(
                f"The window overlap {self.overlap} or blending '{self.blend}' is not one that MedSeg knows.",
                advice=f"Use an overlap from 0 to 0.95 and one of {', '.join(BLENDS)}.",
            )


@dataclass(frozen=True)
class Postprocessing:
    """What is done to each label of the result: keep the largest piece, fill holes, drop pieces below a volume (mL)."""

    largest_component: bool = False
    fill_holes: bool = False
    minimum_volume_ml: float = 0.0


@dataclass(frozen=True)
class Measured:
    """What a run cost where it was measured; ``None`` where it was not.

    Attributes
    ----------
    seconds_cpu, seconds_gpu
        Whole run in seconds, without imports, on two CPU cores and on one GPU.
    memory_mb_cpu
        Peak memory of the process above its start, in MB (10^6 bytes).
    size, spacing
        The image of that run: voxels along i, j, k and mm.
    """

    seconds_cpu: float | None = None
    seconds_gpu: float | None = None
    memory_mb_cpu: float | None = None
    size: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class WeightsFile:
    """The file with the weights, the SHA-256 it must have (hexadecimal) and its size in bytes."""

    path: Path
    sha256: str
    bytes: int

    @property
    def present(self) -> bool:
        """Whether the file is there with the right size (its hash is checked before loading)."""
        try:
            return self.path.stat().st_size == self.bytes
        except OSError:
            return False

    def verify(self) -> None:
        """Check size and SHA-256; a file that was checked is not read again until it changes.

        Raises
        ------
        ModelError
            When the file is missing, cut short or not the one that the package describes.
        """
        try:
            status = self.path.stat()
            if status.st_size != self.bytes:
                raise ModelError(
                    f"The weights {self.path} have {status.st_size} bytes instead of {self.bytes}.",
                    advice="The file is incomplete or was changed; install the model again.",
                )
            stamp = (str(self.path.resolve()), status.st_mtime_ns, status.st_size, self.sha256)
            if stamp in _verified:
                return
            digest = sha256_of(self.path)
        except FileNotFoundError as error:
            raise ModelError(
                f"The weights of the model are missing: {self.path}.", advice="Install the model again."
            ) from error
        except OSError as error:
            raise ModelError(
                f"The weights {self.path} cannot be read: {error.strerror or error}.", advice="Check the permissions."
            ) from error
        if digest != self.sha256:
            raise ModelError(
                f"The weights {self.path} are not the ones that the package describes (SHA-256 {digest[:12]}... "
                f"instead of {self.sha256[:12]}...).",
                advice="The file is damaged or was changed; install the model again from its source.",
            )
        _verified.add(stamp)


_verified: set[tuple[str, int, int, str]] = set()


@dataclass(frozen=True)
class ModelPackage:
    """A model as its folder describes it; parsed data only, nothing of it has been run.

    Attributes
    ----------
    name
        Unique, lower case ("left-atrium-mr").
    verb
        What the model does; today "segment".
    anatomy
        Words under which a user may look for it.
    inputs
        One slot for each image, in the order of the network's input channels.
    labels
        The structures; channel ``v`` of the network's output is the label of value ``v``, channel 0 the background.
    output_channels
        Number of channels of the network's output. With one channel, the label of value 1 is where it is above 0.
    network_target, network_arguments
        What :func:`medseg.networks.build_network` takes.
    metrics
        Measured accuracy, such as ``{"mean_dice": 0.93}``.
    requires
        Lowest versions, such as ``{"monai": "1.4"}``.
    instances
        How labels are separated into single bones, when the model does that.
    slice_spacing_range
        The least and the largest distance of slices (mm) on the network's grid in training; ``None`` when not known.

    Raises
    ------
    ModelError
        When the instances do not suit the labels or the orientation.
    """

    folder: Path
    name: str
    title: str
    description: str
    version: str
    license: str
    verb: str
    inputs: tuple[InputSlot, ...]
    labels: LabelTable
    output_channels: int
    network_target: str
    network_arguments: dict[str, Any]
    preprocessing: Preprocessing
    window: Window
    weights: WeightsFile
    postprocessing: Postprocessing = Postprocessing()
    measured: Measured = Measured()
    anatomy: tuple[str, ...] = ()
    authors: str = ""
    citation: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)
    instances: Instances | None = None
    slice_spacing_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_instances(self.instances, self.labels, self.preprocessing.orientation)

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of the weights, which is traced in every result."""
        return self.weights.sha256

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the inputs, each once."""
        return tuple(dict.fromkeys(slot.modality for slot in self.inputs if slot.modality))

    def problems(self) -> list[str]:
        """Return what keeps the model from running here, one sentence each; empty when nothing is known to."""
        found = []
        if not self.weights.path.is_file():
            found.append(f"The weights are missing ({self.weights.path.name}); install the model again.")
        elif not self.weights.present:
            found.append(f"The weights are incomplete ({self.weights.path.name}); install the model again.")
        found += [_version_problem(package, lowest) for package, lowest in self.requires.items()]
        return [problem for problem in found if problem]

    def capability(self) -> dict[str, Any]:
        """Return what a face needs to offer the model: inputs, labels, cost; plain data, safe as JSON."""
        measured = self.measured
        return {
            "name": self.name,
            "title": self.title,
            "version": self.version,
            "verb": self.verb,
            "anatomy": list(self.anatomy),
            "modalities": list(self.modalities),
            "inputs": [
                {
                    "name": slot.name,
                    "modality": slot.modality,
                    "description": slot.description,
                    "minimum_slices": slot.minimum_slices,
                }
                for slot in self.inputs
            ],
            "labels": [{"value": label.value, "name": label.name, "color": label.color_hex} for label in self.labels],
            "measured": {
                "seconds_cpu": measured.seconds_cpu,
                "seconds_gpu": measured.seconds_gpu,
                "memory_mb_cpu": measured.memory_mb_cpu,
                "size": list(measured.size) if measured.size else None,
                "spacing": list(measured.spacing) if measured.spacing else None,
            },
            "requires": dict(self.requires),
        }

    def summary(self) -> dict[str, Any]:
        """Return :meth:`capability` with everything that a person may want to read; plain data, safe as JSON."""
        return {
            **self.capability(),
            "description": self.description,
            "license": self.license,
            "authors": self.authors,
            "citation": self.citation,
            "metrics": dict(self.metrics),
            "spacing": list(self.preprocessing.spacing),
            "orientation": self.preprocessing.orientation,
            "weights_sha256": self.weights.sha256,
            "weights_bytes": self.weights.bytes,
            "folder": str(self.folder),
            "problems": self.problems(),
        }

    def matches(self, words: str) -> bool:
        """Say whether every one of the typed ``words`` occurs in name, title, anatomy, modality, text or labels."""
        text = " ".join(
            (
                self.name,
                self.title,
                self.description,
                *self.anatomy,
                *(f"{slot.name} {slot.modality} {slot.description}" for slot in self.inputs),
                *self.labels.names,
            )
        ).casefold()
        return all(word in text for word in words.casefold().split())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; raise ``OSError`` when it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _version_problem(package: str, lowest: str) -> str:
    if package == "medseg":
        installed = VERSION
    else:
        try:
            installed = importlib.metadata.version(package)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            return f"It needs {package} {lowest} or later, which is not installed."
    if _numbers(installed) >= _numbers(lowest):
        return ""
    return f"It needs {package} {lowest} or later, and {installed} is installed; update {package}."


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", version)
    numbers = [int(part) for part in release.group().split(".")] if release else [0]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
