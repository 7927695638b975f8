"""A model package: everything that is known about a model without running any of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.errors import ModelError
from medseg.models.correction import CORRECT, Correction, check_correction
from medseg.models.instances import Instances, check_instances
from medseg.models.registration import REGISTER, Registration, check_registration
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.models.choices import Choice
    from medseg.models.nnunet.preparation import NnunetPreparation
    from medseg.models.preprocessing import Preprocessing, Window

VERBS = ("segment", REGISTER, CORRECT)

BUNDLE, NNUNET = "bundle", "nnunet"
"""Kinds of models: a MONAI bundle with MedSeg's section, a results folder of nnU-Net v2."""


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
    """The file with the weights, the SHA-256 it must have (hexadecimal; empty: none is known) and its bytes."""

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
        """Check size and, when one is known, SHA-256; a file that was checked is not read again until it changes.

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
            if not self.sha256:
                return
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

    def digest(self) -> str:
        """Return the SHA-256 that the file must have, or the one that it has; raise ``OSError`` when it is not there.

        A file is not read again until it changes.
        """
        if self.sha256:
            return self.sha256
        status = self.path.stat()
        stamp = (str(self.path.resolve()), status.st_mtime_ns, status.st_size)
        if stamp not in _digests:
            _digests[stamp] = sha256_of(self.path)
        return _digests[stamp]


_digests: dict[tuple[str, int, int], str] = {}
_verified: set[tuple[str, int, int, str]] = set()


@dataclass(frozen=True)
class ModelPackage:
    """A model as its folder describes it; parsed data only, nothing of it has been run.

    Attributes
    ----------
    name
        Unique, lower case ("left-atrium-mr").
    verb
        What the model does: "segment", "register" or "correct".
    anatomy
        Words under which a user may look for it.
    inputs
        One slot for each image, in the order of the network's input channels.
    labels
        The structures; channel ``v`` of the network's output is the label of value ``v``, channel 0 the background. Of
        a model that registers or follows clicks, those by which it was measured.
    window
        Of a model that registers, the size of the grids that it was trained on; it takes others too.
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
    registration
        What a model that registers is run with; ``None`` for the others.
    correction
        What a model that follows clicks is run with; ``None`` for the others.
    kind
        What the folder is: "bundle" or "nnunet".
    members
        The files of all networks of an ensemble, of which ``weights`` is the first; empty: there is one network.
    mirror_axes
        Axes of the network's input along which windows are mirrored, the scores of all mirrored copies averaged.
    preparation
        When given, what prepares the images instead of ``preprocessing``, which then only describes it.
    regions
        For each channel of the output, in this order, the value that voxels get where it is above 0; empty: voxels get
        the channel with the highest score.
    first_stage
        A model whose labels are further channels of the input.
    choices
        What a user may choose about the model.

    Raises
    ------
    ModelError
        When the instances do not suit the labels or the orientation, or ``registration`` or ``correction`` does not
        suit the verb.
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
    registration: Registration | None = None
    correction: Correction | None = None
    kind: str = BUNDLE
    members: tuple[WeightsFile, ...] = ()
    mirror_axes: tuple[int, ...] = ()
    preparation: NnunetPreparation | None = None
    regions: tuple[int, ...] = ()
    first_stage: ModelPackage | None = None
    choices: tuple[Choice, ...] = ()

    def __post_init__(self) -> None:
        check_instances(self.instances, self.labels, self.preprocessing.orientation)
        check_registration(self.registration, self.verb, self.preprocessing)
        check_correction(self.correction, self.verb)

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 that the weights must have, as far as it is known without reading them."""
        return self.weights.sha256

    @property
    def weights_files(self) -> tuple[WeightsFile, ...]:
        """The files of all networks."""
        return self.members or (self.weights,)

    @property
    def passes(self) -> int:
        """How often a network runs on one window."""
        return len(self.weights_files) << len(self.mirror_axes)

    def weights_digest(self) -> str:
        """Return what is traced in every result: the SHA-256 of the weights, of an ensemble that of its files' list.

        Reads files whose SHA-256 is not known. Raises ``OSError`` when one is not there.
        """
        digests = [file.digest() for file in self.weights_files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells networks apart that are kept: folder, files and what was chosen; cheap, no file is read."""
        chosen = tuple((choice.name, choice.chosen) for choice in self.choices)
        files = tuple((str(file.path), file.sha256, _stamp(file.path)) for file in self.weights_files)
        return str(self.folder), files, chosen

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the inputs, each once."""
        return tuple(dict.fromkeys(slot.modality for slot in self.inputs if slot.modality))

    def problems(self) -> list[str]:
        """Return what keeps the model from running here, one sentence each; empty when nothing is known to."""
        found = []
        for file in self.weights_files:
            if not file.path.is_file():
                found.append(f"The weights are missing ({file.path.name}); install the model again.")
            elif not file.present:
                found.append(f"The weights are incomplete ({file.path.name}); install the model again.")
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
            "registration": dict(vars(self.registration)) if self.registration else None,
            "correction": dict(vars(self.correction)) if self.correction else None,
            "choices": [dict(vars(choice)) | {"values": list(choice.values)} for choice in self.choices],
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


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


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
