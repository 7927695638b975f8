"""nnU-Net's checkpoints: pickles that hold more than tensors, read without running anything of them.

Besides the weights, a checkpoint holds the state of the optimiser, the arguments of the training (plans, configuration,
fold, device), the log of its losses as numbers of numpy, and how the image may be mirrored. So unpickling one names, in
addition to what plain tensors name, numpy's scalars and their types, ``torch.device`` and ``_codecs.encode``. Those
names are allowed and no others, and none of numpy's is ever called: an inert object takes its place.
"""

from __future__ import annotations

import functools
import io
import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import MedSegError, ModelError
from medseg.models.loading import check_archive, only_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

LOWEST_TORCH = "2.6"
"""From here on names can be given inert stand-ins, and reading weights only cannot be led to run code
(CVE-2025-32434)."""

_NUMPY = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
ALLOWED = frozenset({*_NUMPY, "torch.device", "_codecs.encode"})

_ADVICE = "Train or download the model again; its weights must come as nnU-Net v2 writes them."


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint says beside its weights.

    Attributes
    ----------
    configuration
        The configuration of the plans that was trained ("3d_fullres").
    trainer
        The class that trained it ("nnUNetTrainer").
    mirror_axes
        The axes along which training mirrored images, which may be mirrored in use too; axes of the network's input.
    """

    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]


def read_facts(path: Path) -> CheckpointFacts:
    """Return what the checkpoint ``path`` says beside its weights; torch is not needed.

    Raises
    ------
    ModelError
        When the file is missing, damaged or no checkpoint of nnU-Net v2.
    UntrustedModelError
        When the file would run code; nothing of it was run.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(f"The weights {path} cannot be read: {error.strerror or error}.", advice=_ADVICE) from error
    return _facts(path, (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=256)
def _facts(path: Path, stamp: tuple[int, int]) -> CheckpointFacts:
    del stamp  # a changed file is read again
    check_archive(path, ALLOWED)
    try:
        with zipfile.ZipFile(path) as archive:
            index = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            content = _InertUnpickler(io.BytesIO(archive.read(index))).load()
        arguments = content["init_args"]
        axes = content.get("inference_allowed_mirroring_axes") or ()
        facts = CheckpointFacts(arguments["configuration"], content["trainer_name"], tuple(axes))
    except MedSegError:
        raise
    except Exception as error:
        raise _no_checkpoint(path) from error
    texts = isinstance(facts.configuration, str) and isinstance(facts.trainer, str)
    if not texts or not set(facts.mirror_axes) <= {0, 1, 2} or "network_weights" not in content:
        raise _no_checkpoint(path)
    return facts


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the weights of the network in the checkpoint ``path``, each once, on the CPU.

    nnU-Net's modules are reachable by several names, and its checkpoints list them under each.

    Raises
    ------
    ModelError
        When the file is missing, damaged or no checkpoint of nnU-Net v2.
    UntrustedModelError
        When the file would run code; nothing of it was run.
    """
    check_archive(path, ALLOWED)
    import torch

    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _NUMPY]):
            # Mapped: the optimiser's state, as large as the weights, is never read.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        weights = content["network_weights"]
    except Exception as error:
        raise _no_checkpoint(path) from error
    tensors = only_tensors(weights, path)
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return _each_once(tensors)


def _each_once(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    heads = [int(name.split(".")[2]) for name in tensors if name.startswith("decoder.seg_layers.")]
    last = f"decoder.seg_layers.{max(heads, default=0)}."
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith("decoder.encoder.")
        and ".all_modules." not in name
        and (name.startswith(last) or not name.startswith("decoder.seg_layers."))
    }


class _Inert:
    """Stands where a checkpoint names something that it is not to get; takes any argument and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _InertUnpickler(pickle.Unpickler):
    """Builds the containers, texts and numbers of a pickle, and inert objects for all else."""

    def find_class(self, _module: str, _name: str) -> Any:
        return _Inert

    def persistent_load(self, _identifier: Any) -> Any:
        return _Inert()


def _no_checkpoint(path: Path) -> ModelError:
    return ModelError(f"{path} is no usable checkpoint of nnU-Net v2.", advice=_ADVICE)
