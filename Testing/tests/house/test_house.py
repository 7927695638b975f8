"""What holds for the whole house: layers, start-up, length of files, what the repository may hold."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HEAVY = ("torch", "monai", "lightning", "SimpleITK", "scipy", "matplotlib", "vtk", "slicer", "pydantic", "yaml", "rich")

# What Slicer's process imports before the user has pressed anything, and the client that presses start.
LIGHT_MODULES = (
    "medseg",
    "medseg.errors",
    "medseg.progress",
    "medseg.files",
    "medseg.labels",
    "medseg.volumes",
    "medseg.models",
    "medseg.analysis",
    "medseg.segmentation",
    "medseg.training",
    "medseg.device",
    "medseg.backend",
    "medseg.mrml",
    "medseg.phantom",
    "medseg.preview",
)


@pytest.fixture(scope="module")
def tracked_files(repository: Path) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    return [repository / name for name in listed.stdout.decode().split("\0") if name and (repository / name).is_file()]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_a_part_brings_nothing_heavy(module: str) -> None:
    code = f"import {module}, sys, json; print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


def test_layers_are_kept(repository: Path) -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed in this environment")
    result = subprocess.run(
        [str(lint), "--config", str(repository / "pyproject.toml"), "--no-cache"],
        cwd=repository / "Logic", capture_output=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout.decode("utf-8", "replace")


def test_files_have_one_reason_to_change(tracked_files: list[Path], repository: Path) -> None:
    long = {
        str(path.relative_to(repository)): lines
        for path in tracked_files
        if path.suffix == ".py" and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert long == {}


def test_the_library_prints_nothing_and_owes_nothing(repository: Path) -> None:
    found = []
    for path in [*(repository / "Logic").rglob("*.py"), *(repository / "MedSegExtension").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
        if any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls):
            found.append(f"{path.name} prints")
        if any(word in text for word in ("TODO", "FIXME", "XXX")):
            found.append(f"{path.name} has something left to do")
    assert found == []


def test_the_segment_path_needs_only_what_slicer_has(repository: Path) -> None:
    """In 3D Slicer only torch and monai are added: the way from panel to result may import nothing else."""
    given = {"numpy", "SimpleITK", "torch", "monai", "medseg", "vtk", "vtkmodules", "slicer"}
    optional = {"psutil", "safetensors"}
    parts = ("volumes", "labels", "models", "networks", "segmentation", "backend", "mrml")
    files = [path for part in parts for path in (repository / "Logic" / "medseg" / part).rglob("*.py")]
    files += list((repository / "Logic" / "medseg").glob("*.py"))
    foreign = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in given | optional | set(sys.stdlib_module_names):
                    foreign[str(path.relative_to(repository))] = name
    assert foreign == {}


def test_the_repository_holds_no_machine_paths_and_no_large_files(tracked_files: list[Path], repository: Path) -> None:
    large = [str(path.relative_to(repository)) for path in tracked_files if path.stat().st_size > 10 * 1024 * 1024]
    assert large == []
    home_of_root = "/" + "root/"
    for path in tracked_files:
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".json", ".txt", ".ui", ".cmake", ""}:
            assert home_of_root not in path.read_text(encoding="utf-8", errors="ignore"), path


def test_a_wheel_holds_every_bundled_model_and_recipe(repository: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("Logic", "Resources"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "Screenshots"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source / name)
    code = "import setuptools.build_meta as build, sys; print(build.build_wheel(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=source, capture_output=True, text=True, check=False
    )
    if "No module named 'setuptools" in built.stderr:
        pytest.skip("setuptools is not installed in this environment")
    assert built.returncode == 0, built.stderr[-2000:]
    wheel = tmp_path / built.stdout.splitlines()[-1]
    held = {name.partition("share/medseg/")[2] for name in zipfile.ZipFile(wheel).namelist()}
    resources = repository / "Resources"
    expected = {
        path.relative_to(resources).as_posix()
        for folder in ("Models", "recipes")
        for path in (resources / folder).rglob("*")
        if path.is_file()
    }
    expected |= {path.name for path in resources.glob("catalogue*.json")}
    assert expected - held == set()


def test_every_bundled_model_is_a_package_that_loads(repository: Path) -> None:
    from medseg.models import load_network, read_package

    folders = [path for path in (repository / "Resources" / "Models").iterdir() if path.is_dir()]
    assert "left-atrium-mr" in [folder.name for folder in folders]
    for folder in folders:
        package = read_package(folder)
        assert package.name == folder.name
        assert package.problems() == []
        assert package.weights.path.stat().st_size <= 10 * 1024 * 1024
        assert package.metrics["mean_dice"] > 0
        load_network(package)
