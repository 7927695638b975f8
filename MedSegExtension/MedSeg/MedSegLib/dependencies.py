"""Installing what jobs need into Slicer's Python, when the user presses the button that needs it and never before."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence

_logger = logging.getLogger(__name__)

REQUIRED = ("torch", "monai")
"""What the worker needs."""

TRAINING = ("lightning", "pydantic", "yaml", "tensorboard", "matplotlib", "scipy")
"""What a training needs beyond that, by the names of import."""

PROTECTED = ("numpy", "SimpleITK", "requests", "torch", "scipy", "vtk")
"""What pip may not replace: Slicer's own packages are in use by other modules, and torch was chosen for the GPU."""


def missingPackages(names: Sequence[str] = REQUIRED) -> list[str]:
    """Return which packages Slicer's Python lacks, without importing any of them."""
    importlib.invalidate_caches()
    return [name for name in names if importlib.util.find_spec(name) is None]


def ensureInstalled(requirementsFile: Path) -> None:
    """Install what is missing after asking the user; does nothing, and asks nothing, when all is there.

    Raises
    ------
    WorkerError
        When the user declines, the extension PyTorch is not installed, an installation fails, or Slicer runs tests
        (which must not change the installation).
    """
    missing = missingPackages()
    if not missing:
        return
    _refuseInTests(missing)
    if "torch" in missing:
        _installTorch()
    if "monai" in missingPackages():
        _installRequirements(requirementsFile, "MONAI")
    _insist(missingPackages())


def ensureTrainingInstalled(requirementsFile: Path) -> None:
    """Install what a training needs beyond what the worker needs, as :func:`ensureInstalled` does.

    Raises
    ------
    WorkerError
        See :func:`ensureInstalled`.
    """
    missing = missingPackages(TRAINING)
    if not missing:
        return
    _refuseInTests(missing)
    _installRequirements(requirementsFile, _("What a training needs"))
    _insist(missingPackages(TRAINING))


def _refuseInTests(missing: Sequence[str]) -> None:
    if slicer.app.testingEnabled():
        raise WorkerError(
            _("Slicer's Python lacks {packages}.").format(packages=", ".join(missing)),
            advice=_("Install them before running tests."),
        )


def _insist(missing: Sequence[str]) -> None:
    if missing:
        raise WorkerError(
            _("{packages} could not be installed.").format(packages=", ".join(missing)),
            advice=_("See the log for the reason, or choose another Python environment below."),
        )


def _installTorch() -> None:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise WorkerError(
            _("PyTorch is not installed, and the extension that installs it is missing."),
            advice=_(
                "Install the extension PyTorch in the Extensions Manager and restart Slicer, or choose a Python "
                "environment that has PyTorch below."
            ),
        ) from error
    logic = PyTorchUtils.PyTorchUtilsLogic()
    try:
        installed = _callInstallTorch(logic)
    except Exception as error:
        _logger.exception("The extension PyTorch failed to install PyTorch")
        raise WorkerError(
            _("PyTorch could not be installed: {reason}").format(reason=_firstLine(error)),
            advice=_("Try again in the module PyTorch Util, or choose another Python environment below."),
        ) from error
    if installed is None and "torch" in missingPackages():
        raise WorkerError(_("PyTorch was not installed."), advice=_("Press the button again to install it."))


def _callInstallTorch(logic: Any) -> Any:
    # The signature of installTorch has changed between versions of the extension.
    known = inspect.signature(logic.installTorch).parameters
    wanted = {"askConfirmation": True, "torchVersionRequirement": ">=2.2"}
    return logic.installTorch(**{name: value for name, value in wanted.items() if name in known})


def _installRequirements(requirementsFile: Path, what: str) -> None:
    constraints = Path(tempfile.mkdtemp(prefix="MedSeg-")) / "constraints.txt"
    constraints.write_text("\n".join(_installedVersions(PROTECTED)) + "\n", encoding="utf-8")
    try:
        try:
            from slicer import packaging
        except ImportError:  # Slicer 5.10
            _askAndInstall(requirementsFile, constraints)
        else:
            packaging.pip_ensure(
                packaging.load_requirements(requirementsFile), constraints=constraints, requester="MedSeg"
            )
    except RuntimeError as error:
        raise WorkerError(
            _("{what} was not installed.").format(what=what), advice=_("Press the button again to install it.")
        ) from error
    except Exception as error:
        _logger.exception("pip failed")
        raise WorkerError(
            _("{what} could not be installed: {reason}").format(what=what, reason=_firstLine(error)),
            advice=_("Check the connection to the internet, or choose another Python environment below."),
        ) from error
    finally:
        constraints.unlink()
        constraints.parent.rmdir()


def _askAndInstall(requirementsFile: Path, constraints: Path) -> None:
    lines = [line.strip() for line in requirementsFile.read_text(encoding="utf-8").splitlines()]
    requirements = [line for line in lines if line and not line.startswith(("#", "-"))]
    question = _("MedSeg needs to install {packages} into Slicer's Python. Continue?")
    if not slicer.util.confirmOkCancelDisplay(question.format(packages=", ".join(requirements))):
        message = "declined"
        raise RuntimeError(message)
    slicer.util.pip_install([*requirements, "-c", str(constraints)])


def _installedVersions(names: tuple[str, ...]) -> list[str]:
    wanted = {name.lower() for name in names}
    installed = {str(found.metadata["Name"]): found.version for found in importlib.metadata.distributions()}
    return [f"{name}=={version}" for name, version in installed.items() if name.lower() in wanted]


def _firstLine(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
