"""Which Python runs the worker, and what is installed when something is missing. Nothing is ever installed here."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import slicer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def dependencies(a_user: Any) -> Any:
    return sys.modules["MedSegLib.dependencies"]


@pytest.fixture
def settings(a_user: Any) -> Any:
    return sys.modules["MedSegLib.settings"]


@pytest.fixture
def lacking(dependencies: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[str]]:
    """Make Slicer's Python lack packages; taking them out of the returned set installs them."""

    def lack(*names: str) -> set[str]:
        missing = set(names)
        find = dependencies.importlib.util.find_spec
        monkeypatch.setattr(
            dependencies.importlib.util, "find_spec", lambda name, *more: None if name in missing else find(name, *more)
        )
        monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirement: requirement.name not in missing)
        return missing

    return lack


@pytest.fixture
def pytorch_extension(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module of the extension PyTorch, with an installTorch to be filled in."""
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = type("PyTorchUtilsLogic", (), {})
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return module


def requirements(repository: Path) -> Path:
    return repository / "MedSegExtension/MedSeg/Resources/requirements.txt"


def test_nothing_is_asked_when_everything_is_there(a_user: Any, dependencies: Any, repository: Path) -> None:
    before = list(a_user.application.messages)
    dependencies.ensureInstalled(requirements(repository))
    assert a_user.application.messages == before
    assert a_user.application.installations == []
    assert "torch" not in dict.fromkeys(name for name in sys.modules if name == "MedSegLib.torch")


def test_without_the_pytorch_extension_the_user_learns_what_to_do(
    a_user: Any, a_blob_image: Any, lacking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking("torch", "monai")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    a_user.load(a_blob_image[0])
    a_user.press()
    assert not a_user.panel.controller.isRunning
    assert "Install the extension PyTorch in the Extensions Manager" in a_user.status
    assert a_user.ui.segmentButton.enabled


def test_torch_comes_through_the_pytorch_extension_whatever_its_signature(
    lacking: Any, dependencies: Any, pytorch_extension: Any, repository: Path
) -> None:
    calls: list[dict[str, Any]] = []
    missing = lacking("torch")

    def new(self: Any, askConfirmation: bool = False, torchVersionRequirement: str | None = None) -> object:
        calls.append({"askConfirmation": askConfirmation, "torchVersionRequirement": torchVersionRequirement})
        missing.discard("torch")
        return object()

    def old(self: Any, askConfirmation: bool = False) -> object:
        calls.append({"askConfirmation": askConfirmation})
        missing.discard("torch")
        return object()

    for function in (new, old):
        missing.add("torch")
        pytorch_extension.PyTorchUtilsLogic.installTorch = function
        dependencies.ensureInstalled(requirements(repository))
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": ">=2.2"}, {"askConfirmation": True}]


@pytest.mark.parametrize("way", ["declined", "failed"])
def test_a_torch_that_was_not_installed_is_told(
    lacking: Any, dependencies: Any, pytorch_extension: Any, repository: Path, way: str
) -> None:
    from medseg.errors import WorkerError

    def installTorch(self: Any) -> None:
        if way == "failed":
            raise RuntimeError("no space left\nsecond line")

    lacking("torch")
    pytorch_extension.PyTorchUtilsLogic.installTorch = installTorch
    with pytest.raises(WorkerError) as caught:
        dependencies.ensureInstalled(requirements(repository))
    assert "second line" not in str(caught.value)
    assert ("no space left" in str(caught.value)) == (way == "failed")


def test_monai_is_installed_after_a_question_and_slicers_own_packages_stay(
    a_user: Any, lacking: Any, dependencies: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = lacking("monai")
    seen: dict[str, str] = {}
    install = slicer.packaging.pip_install

    def pip_install(names: Any, constraints: Any = None, **more: Any) -> Any:
        seen["constraints"] = Path(constraints).read_text(encoding="utf-8")
        missing.discard("monai")
        return install(names, constraints=constraints, **more)

    monkeypatch.setattr(slicer.packaging, "pip_install", pip_install)
    a_user.application.answer(True)
    dependencies.ensureInstalled(requirements(repository))
    assert a_user.application.installations.pop() == ["monai>=1.4"]
    assert "numpy==" in seen["constraints"]
    assert "torch==" in seen["constraints"]


def test_declining_monai_is_told_and_the_panel_works_on(a_user: Any, a_blob_image: Any, lacking: Any) -> None:
    lacking("monai")
    a_user.load(a_blob_image[0])
    a_user.application.answer(False)
    a_user.press()
    assert "MONAI was not installed" in a_user.status
    assert a_user.application.installations == []
    assert a_user.ui.segmentButton.enabled


def test_slicer_5_10_without_packaging_asks_and_installs_too(
    a_user: Any, lacking: Any, dependencies: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = lacking("monai")
    asked: list[Any] = []

    def pip_install(names: Any) -> None:
        asked.append(list(names))
        missing.discard("monai")

    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.delattr(slicer, "packaging")
    a_user.application.answer(True)
    dependencies.ensureInstalled(requirements(repository))
    assert asked[0][:2] == ["monai>=1.4", "-c"]


def test_tests_change_no_installation_and_ask_nothing(a_user: Any, a_blob_image: Any, lacking: Any) -> None:
    lacking("torch", "monai")
    a_user.load(a_blob_image[0])
    a_user.application.setTestingEnabled(True)
    try:
        a_user.press()
    finally:
        a_user.application.setTestingEnabled(False)
    assert "lacks torch, monai" in a_user.status


def test_python_slicer_runs_the_worker(settings: Any) -> None:
    interpreter = settings.chooseInterpreter()
    assert not interpreter.foreign
    assert interpreter.path.is_file()


@pytest.fixture
def a_slicer_without_python_slicer(a_user: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As built with the system's Python: no PythonSlicer, and sys.executable, where Slicer puts it, is empty."""
    program = Path(slicer.app.slicerHome) / "bin" / "PythonSlicer"
    hidden = program.rename(program.with_name("hidden"))
    monkeypatch.setenv("SLICER_HOME", "/opt/slicer")
    monkeypatch.setattr(sys, "executable", "")
    yield
    hidden.rename(program)


def test_a_slicer_without_python_slicer_falls_back_to_the_plain_python(
    a_slicer_without_python_slicer: None, settings: Any
) -> None:
    from medseg.backend.interpreter import worker_environment

    interpreter = settings.chooseInterpreter()
    assert interpreter.path.name.startswith("python")
    assert interpreter.path.parent in (Path(sys.prefix) / "bin", Path(sys.base_prefix) / "bin", Path(sys.prefix))
    assert not interpreter.foreign
    folders = worker_environment(interpreter)["PYTHONPATH"].split(os.pathsep)
    import torch

    assert str(Path(torch.__file__).parents[1]) in folders


def test_a_slicer_without_python_slicer_segments(
    a_slicer_without_python_slicer: None, a_user: Any, a_blob_image: Any
) -> None:
    a_user.load(a_blob_image[0])
    a_user.press()
    outcome = a_user.finish()
    assert outcome.state == "done", outcome.sentence


def test_a_python_that_the_user_named_is_never_replaced_by_a_fallback(
    a_slicer_without_python_slicer: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.errors import WorkerError

    monkeypatch.setenv("MEDSEG_PYTHON", "/nowhere/python")
    assert settings.usesOwnEnvironment()
    with pytest.raises(WorkerError, match="/nowhere/python"):
        settings.chooseInterpreter()


def test_the_search_path_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.backend.interpreter import PythonInterpreter, worker_environment

    current = {"PYTHONPATH": os.pathsep.join(["/a", "/b"])}
    interpreter = PythonInterpreter(Path("/p"), "test", search_path=("/b", "/c"))
    assert worker_environment(interpreter, current=current)["PYTHONPATH"].split(os.pathsep) == ["/a", "/b", "/c"]
    foreign = PythonInterpreter(Path("/p"), "test", foreign=True, search_path=("/c",))
    assert "PYTHONPATH" not in worker_environment(foreign, current=current)
