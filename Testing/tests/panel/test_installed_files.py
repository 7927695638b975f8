"""What the extension's CMake files install, with a stand-in for Slicer's CMake package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MODULES = "lib/Slicer-5.13/qt-scripted-modules"

NOT_INSTALLED = ("__pycache__", "Screenshots")


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part in NOT_INSTALLED for part in path.parts)
    }


def expected_files(repository: Path) -> dict[str, Path]:
    """Every file that must lie in the folder of the installed module, with its source."""
    sources = {
        name: module / name
        for module in (
            repository / "MedSegExtension" / "MedSeg",
            repository / "MedSegExtension" / "SegmentEditorMedSeg",
        )
        for name in files_below(module)
        if name != "CMakeLists.txt"
    }
    sources |= {
        f"medseg/{name}": repository / "Logic/medseg" / name for name in files_below(repository / "Logic/medseg")
    }
    resources = repository / "Resources"
    return sources | {f"Resources/{name}": resources / name for name in files_below(resources)}


@pytest.fixture(scope="module")
def a_build(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The build tree of the extension, configured, built and installed to its folder ``installed``."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed; the patterns of the CMake files are still tested")
    build = tmp_path_factory.mktemp("build")
    slicer = repository / "Testing" / "support" / "fake_slicer"
    for command in (
        [cmake, "-S", str(repository), "-B", str(build), f"-DSlicer_DIR={slicer}"],
        [cmake, "--build", str(build)],
        [cmake, "--install", str(build), "--prefix", str(build / "installed")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build


def test_every_file_is_in_the_build_tree_and_in_the_installed_extension(a_build: Path, repository: Path) -> None:
    expected = expected_files(repository)
    assert {"MedSegLib/panel.py", "SegmentEditorMedSegLib/SegmentEditorEffect.png"} <= set(expected)
    assert "medseg/backend/worker.py" in expected
    for folder in (a_build / MODULES, a_build / "installed" / MODULES):
        found = files_below(folder)
        assert found - set(expected) == set()
        assert set(expected) - found == set(), f"left out of {folder}"
        for name, source in expected.items():
            assert (folder / name).read_bytes() == source.read_bytes(), name


def test_the_installed_package_works_beside_the_module_without_the_source_tree(a_build: Path, tmp_path: Path) -> None:
    moved = tmp_path / "qt-scripted-modules"
    shutil.copytree(a_build / "installed" / MODULES, moved)
    code = (
        "import sys; sys.path = [p for p in sys.path if 'Logic' not in p]; sys.meta_path = "
        "[f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
        f"sys.path.insert(0, {str(moved)!r}); "
        "import medseg, medseg.models; print(medseg.__file__); print(medseg.models.bundled_folder())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    package, models = done.stdout.split()
    assert package == str(moved / "medseg" / "__init__.py")
    if (moved / "Resources" / "Models").is_dir():
        assert models == str(moved / "Resources" / "Models")


def test_the_installed_module_loads_with_the_package_beside_it(a_build: Path, repository: Path, tmp_path: Path) -> None:
    moved = tmp_path / "qt-scripted-modules"
    shutil.copytree(a_build / "installed" / MODULES, moved)
    code = (
        f"import sys; sys.path.insert(0, {str(repository / 'Testing')!r}); "
        "from slicer_app import SlicerApplication; "
        f"module = SlicerApplication.instance().loadModule({str(moved / 'MedSeg.py')!r}); "
        "module.widget; import medseg; print(medseg.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split()[-1] == str(moved / "medseg" / "__init__.py")
    assert "Traceback" not in done.stderr


def test_the_unit_tests_are_registered_with_and_without_a_main_window(a_build: Path) -> None:
    assert (a_build / "unittests.txt").read_text(encoding="utf-8").split() == [
        "MedSeg.py",
        "nomainwindow_MedSeg.py",
        "SegmentEditorMedSeg.py",
        "nomainwindow_SegmentEditorMedSeg.py",
    ]


def test_the_extension_describes_itself(a_build: Path, repository: Path) -> None:
    text = (a_build / "metadata.txt").read_text(encoding="utf-8")
    metadata = dict(line.split("=", 1) for line in text.splitlines())
    assert metadata["PROJECT_NAME"] == "MedSeg"
    for name in (
        "HOMEPAGE",
        "CATEGORY",
        "CONTRIBUTORS",
        "DESCRIPTION",
        "ICONURL",
        "SCREENSHOTURLS",
        "DEPENDS",
        "STATUS",
    ):
        assert metadata[f"EXTENSION_{name}"], name
    assert metadata["EXTENSION_DEPENDS"] == "PyTorch"
    # Slicer's macros pass these on unquoted: a semicolon would cut them.
    assert not any(";" in value for name, value in metadata.items() if name.startswith("EXTENSION_"))
    for name in ("README_FILE", "LICENSE_FILE"):
        assert metadata[f"EXTENSION_{name}"].startswith(str(repository))
    assert (repository / "LICENSE").is_file()


def test_the_patterns_of_the_cmake_files_leave_no_file_out(repository: Path) -> None:
    """The same check without cmake: the patterns are tried with pathlib."""
    covered = set()
    for module in (repository / "MedSegExtension" / "MedSeg", repository / "MedSegExtension" / "SegmentEditorMedSeg"):
        text = (module / "CMakeLists.txt").read_text(encoding="utf-8")
        globs = re.findall(r"file\(GLOB_RECURSE \w+ CONFIGURE_DEPENDS\s+RELATIVE \S+\s+([^)]+)\)", text)
        assert len(globs) == text.count("GLOB_RECURSE")
        covered.add(module / f"{module.name}.py")
        for pattern in " ".join(globs).split():
            filled = pattern.replace("${CMAKE_CURRENT_SOURCE_DIR}", str(module))
            filled = filled.replace("${MEDSEG_ROOT}", str(repository)).replace("${MODULE_NAME}", module.name)
            folder, _, name = filled.rpartition("/")
            covered |= set(type(repository)(folder).rglob(name))
    assert set(expected_files(repository).values()) - covered == set()


def test_the_icon_and_the_screenshot_are_where_the_index_looks_for_them(repository: Path) -> None:
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    for field in ("ICONURL", "SCREENSHOTURLS"):
        # The index reads the value with a pattern of one line and one pair of quotes.
        urls = re.search(rf'set\s*\(EXTENSION_{field}\s*"([^"]+)"[ ]*\)', text)
        assert urls is not None, field
        for url in urls.group(1).split():
            assert url.startswith("https://raw.githubusercontent.com/")
            path = repository / url.split("/main/", 1)[1]
            assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n"), path
