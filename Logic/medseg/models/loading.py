"""Build a package's network and load its weights, without ever running code that comes with them."""

from __future__ import annotations

import contextlib
import pickletools
import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO

from medseg.errors import DeviceError, DeviceMemoryError, MedSegError, ModelError, UntrustedModelError
from medseg.models.package import NNUNET

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, nn

    from medseg.models.package import ModelPackage

_REINSTALL = "The file is damaged or of another kind; install the model again."
_LARGEST_PICKLE = 64 << 20
_SAFE_GLOBALS = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    *(
        f"torch.{kind}Storage"
        for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
    ),
}
"""What the index of a file of plain tensors names; :func:`torch.load` is held to its own list besides."""

_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


def load_network(package: ModelPackage, device: str = "cpu") -> nn.Module:
    """Return the network of ``package`` with its weights (float32), in evaluation mode, on ``device``.

    The SHA-256 of the weights is checked first; they are read as tensors only.

    Parameters
    ----------
    device
        As torch names it ("cpu", "cuda:0").

    An ensemble, and a network whose input is mirrored, come as one module (:class:`medseg.networks.Ensemble`).

    Raises
    ------
    ModelError
        When a version is too low, the weights are missing, changed, damaged or do not fit the network.
    UntrustedModelError
        When the weights would run code, or the network is not on the allow-list; nothing of it was run.
    DeviceError, DeviceMemoryError
        When the device is not there or has too little memory for the network.
    """
    unmet = package.problems()
    if unmet:
        raise ModelError(f"The model '{package.title}' cannot run here. {' '.join(unmet)}")
    networks = []
    for file in package.weights_files:
        file.verify()
        networks.append(_build(package, _tensors_of(package, file.path)))
    network = networks[0]
    flat = package.network_arguments.get("spatial_dims") == 2
    if len(networks) > 1 or package.mirror_axes or flat:
        from medseg.networks import Ensemble

        network = Ensemble(networks, mirror_axes=package.mirror_axes, flat=flat)
    return _move(network.eval(), device)


def _tensors_of(package: ModelPackage, path: Path) -> dict[str, Tensor]:
    if package.kind == NNUNET:
        from medseg.models.nnunet.checkpoint import read_checkpoint

        return read_checkpoint(path)
    return read_weights(path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file (``.pt`` of a state dict, or ``.safetensors``) by name, on the CPU.

    Raises
    ------
    ModelError
        When the file is missing, damaged or holds something else than tensors by name.
    UntrustedModelError
        When the file would run code; the sentence names it, and it was not run.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    check_archive(path)
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"The weights {path} cannot be read: {_first_line(error)}", advice=_REINSTALL) from error
    return only_tensors(loaded, path)


def pickle_globals(data: bytes | BinaryIO) -> set[str]:
    """Return the names (``module.name``) that unpickling the one pickle ``data`` would import, without unpickling it.

    A name that the pickle puts together in a way that only running it would show is given as ``?``.

    Raises
    ------
    ValueError
        When ``data`` is no complete pickle.
    """
    names: set[str] = set()
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("GLOBAL", "INST"):
            names.add(str(argument).replace(" ", "."))
        elif operation.name == "STACK_GLOBAL":
            # The two names lie on the stack; they are known for sure only when the two last steps put them there.
            names.add(".".join(texts[-2:]) if len(texts) >= 2 else "?")
        elif operation.name in ("EXT1", "EXT2", "EXT4"):
            names.add("?")
        if operation.name in _TEXTS:
            texts.append(str(argument))
        elif operation.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            texts.clear()
    return names


def check_archive(path: Path, also: Collection[str] = ()) -> None:
    """Refuse what is not an archive of tensors as ``torch.save`` writes it, before torch sees it.

    Parameters
    ----------
    also
        Names (``module.name``) that its index may have besides those of plain tensors.

    Raises
    ------
    ModelError
        When the file is missing, damaged or no such archive.
    UntrustedModelError
        When it would run code; the sentence names it.
    """
    allowed = _SAFE_GLOBALS | set(also)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_members(archive, path, allowed)
        else:
            _refuse_bare_pickle(path, allowed)
    except OSError as error:
        raise ModelError(f"The weights {path} cannot be read: {error.strerror or error}.", advice=_REINSTALL) from error
    except MedSegError:
        raise
    except Exception as error:
        raise ModelError(f"The weights {path} are damaged: {_first_line(error)}", advice=_REINSTALL) from error


def _check_members(archive: zipfile.ZipFile, path: Path, allowed: set[str]) -> None:
    members = archive.infolist()
    if any(member.filename.endswith((".py", "/constants.pkl")) for member in members):
        raise UntrustedModelError(
            f"The weights {path} are a TorchScript program, which is code.",
            advice="It was not run. Ask the author of the model for its weights as a state dict.",
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        # torch stores without compression; a packed member could unfold to any size.
        raise ModelError(f"The weights {path} are packed in an unusual way.", advice=_REINSTALL)
    indices = [member for member in members if member.filename.endswith(".pkl")]
    if not indices or any(member.file_size > _LARGEST_PICKLE for member in indices):
        raise ModelError(f"The weights {path} have no usable index of tensors.", advice=_REINSTALL)
    for member in indices:
        _refuse_names(pickle_globals(archive.read(member)), path, allowed)


def _refuse_bare_pickle(path: Path, allowed: set[str]) -> None:
    """Refuse a file that is no archive; say what it would run when it is a pickle that would."""
    names: set[str] = set()
    with path.open("rb") as stream, contextlib.suppress(Exception):
        # torch's old format is several pickles on end; the scan stops at what is no pickle, whatever that raises.
        while stream.tell() < _LARGEST_PICKLE:
            names |= pickle_globals(stream)
    _refuse_names(names, path, allowed)
    raise ModelError(f"The weights {path} are not an archive of tensors.", advice=_REINSTALL)


def _refuse_names(names: set[str], path: Path, allowed: set[str]) -> None:
    foreign = sorted(names - allowed)
    if foreign:
        what = ", ".join("something that it hides" if name == "?" else f"'{name}'" for name in foreign)
        raise UntrustedModelError(
            f"The weights {path} would run code when they are loaded: {what[:300]}.",
            advice="Nothing of it was run. Delete the model, and use one from a source that you trust.",
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelError(
            f"The weights {path} need the package safetensors, which is not installed.",
            advice="Install it (pip install safetensors) in the Python environment that runs the model.",
        ) from error
    try:
        return only_tensors(load_file(path, device="cpu"), path)
    except MedSegError:
        raise
    except Exception as error:
        raise ModelError(f"The weights {path} cannot be read: {_first_line(error)}", advice=_REINSTALL) from error


def only_tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    """Return ``loaded`` when it is a dictionary of dense tensors by name, else raise :class:`ModelError`."""
    import torch

    if not isinstance(loaded, dict) or not loaded:
        raise ModelError(f"The weights {path} are not tensors by name.", advice=_REINSTALL)
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise ModelError(
                f"The weights {path} hold something else than tensors: {str(name)[:80]}.", advice=_REINSTALL
            )
    return dict(loaded)


def _build(package: ModelPackage, tensors: dict[str, Tensor]) -> nn.Module:
    from medseg.networks import build_network

    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    frame = _frame(package)
    if frame is not None:
        # Compared before any memory is taken: a damaged configuration may ask for a network of any size.
        _compare(frame, shapes, package)
    try:
        with _without_drawing():
            network = build_network(package.network_target, package.network_arguments)
        _compare(network, shapes, package)
        network.load_state_dict({name: _as_float32(tensor) for name, tensor in tensors.items()})
    except MedSegError:
        raise
    except Exception as error:
        raise ModelError(
            f"The network of the model '{package.title}' cannot be built: {_first_line(error)}", advice=_REINSTALL
        ) from error
    return network


def _frame(package: ModelPackage) -> nn.Module | None:
    """Return the network without memory for its weights, or ``None`` for one that cannot be built that way."""
    import torch

    from medseg.networks import build_network

    try:
        with torch.device("meta"), _without_drawing():
            return build_network(package.network_target, package.network_arguments)
    except UntrustedModelError:
        raise
    except Exception:  # noqa: BLE001 - some networks compute with numbers while they are built
        return None


def _without_drawing() -> AbstractContextManager:
    """Leave initial weights as the memory comes: all are replaced, and drawing on "meta" imports torch's compiler."""
    import torch
    from torch.overrides import TorchFunctionMode

    drawing = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}

    class WithoutDrawing(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            return args[0] if function in drawing and args else function(*args, **(kwargs or {}))

    return WithoutDrawing()


def _compare(network: nn.Module, shapes: dict[str, tuple[int, ...]], package: ModelPackage) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    faults = [
        *(f"'{name}' is missing" for name in expected if name not in shapes),
        *(f"'{name}' is not part of the network" for name in shapes if name not in expected),
        *(
            f"'{name}' has the shape {shapes[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in shapes and shapes[name] != shape
        ),
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ModelError(
            f"The weights of the model '{package.title}' do not fit its network: {', '.join(faults[:3])}{more}.",
            advice="It may have been trained with another network than its plans say; ask its author."
            if package.kind == NNUNET
            else "The package contradicts itself; install the model again.",
        )


def _as_float32(tensor: Tensor) -> Tensor:
    import torch

    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(torch.float32)
    if not bool(torch.isfinite(tensor).all()):
        raise ModelError("The weights of the model hold values that are not numbers.", advice=_REINSTALL)
    return tensor


def _move(network: nn.Module, device: str) -> nn.Module:
    import torch

    try:
        return network.to(device)
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The device {device} has too little free memory for the model.", advice="Use the CPU, or free some memory."
        ) from error
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"The device {device} cannot take the model: {_first_line(error)}",
            advice="Choose another device, such as cpu.",
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
