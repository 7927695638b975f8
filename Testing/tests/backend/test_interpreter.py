"""Which Python is taken for the worker, in which environment, and what is said about one that will not do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from medseg.backend import interpreter as interpreters
from medseg.backend import running_worker
from medseg.backend.client import WorkerClient
from medseg.backend.interpreter import (
    PythonInterpreter,
    check_interpreter,
    find_interpreter,
    inside_slicer,
    package_problem,
    version_tuple,
    worker_environment,
)
from medseg.errors import WorkerError
from support.processes import is_gone, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.volumes import Volume


@pytest.fixture
def a_program(tmp_path: Path) -> Callable[..., Path]:
    """Make an executable shell script in a folder of its own."""

    def make(text: str, name: str = "python", folder: str = "somewhere") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return path

    return make


@pytest.fixture
def a_slicer(a_program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slicer application around this process, as far as the search can see; return its PythonSlicer."""
    found = a_program("exit 0", "PythonSlicer", "Slicer-5.13/bin")
    monkeypatch.setattr(sys, "executable", str(found.parent / "SlicerApp-real"))
    monkeypatch.setenv("SLICER_HOME", str(found.parents[1]))
    monkeypatch.setenv("PATH", str(found.parent))
    return found


def test_outside_slicer_this_python_runs_the_worker() -> None:
    assert find_interpreter() == PythonInterpreter(interpreters.Path(sys.executable), "this Python")


def test_slicers_own_python_is_taken_inside_slicer(a_slicer: Path) -> None:
    assert inside_slicer()
    assert find_interpreter() == PythonInterpreter(a_slicer, "PythonSlicer")


def test_slicers_python_is_found_beside_the_application(a_slicer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_interpreter().path == a_slicer


def test_slicer_may_name_pythonslicer_as_its_executable(a_slicer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(a_slicer))
    assert find_interpreter().source == "PythonSlicer"


def test_a_slicer_without_its_python_says_so(a_slicer: Path) -> None:
    a_slicer.unlink()
    with pytest.raises(WorkerError, match="Reinstall 3D Slicer"):
        find_interpreter()


def test_a_shell_that_slicer_has_opened_does_not_make_another_python_slicers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLICER_HOME", "/opt/slicer")
    assert not inside_slicer()


def test_the_setting_wins_over_the_variable_and_the_variable_over_slicer(
    a_slicer: Path, a_program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_variable, of_setting = a_program("exit 0", folder="variable"), a_program("exit 0", folder="setting")
    assert find_interpreter().path == a_slicer
    monkeypatch.setenv("MEDSEG_PYTHON", str(of_variable))
    assert find_interpreter() == PythonInterpreter(of_variable, "MEDSEG_PYTHON", foreign=True)
    assert find_interpreter(str(of_setting)) == PythonInterpreter(of_setting, "setting", foreign=True)
    assert find_interpreter("  ").path == of_variable


@pytest.mark.parametrize("name", ["bin/python3", "bin/python", "Scripts/python.exe", "python.exe"])
def test_the_folder_of_an_environment_will_do(a_program: Callable[..., Path], tmp_path: Path, name: str) -> None:
    program = a_program("exit 0", name, "environment")
    assert find_interpreter(str(tmp_path / "environment")).path == program


def test_a_program_on_the_search_path_may_be_named_alone(
    a_program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = a_program("exit 0", "python-for-medseg")
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_interpreter("python-for-medseg").path == program


def test_a_python_that_is_not_there_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkerError, match=r"no Python at .*nowhere.* in MedSeg's settings"):
        find_interpreter("/nowhere/python")
    monkeypatch.setenv("MEDSEG_PYTHON", "/nowhere/else")
    with pytest.raises(WorkerError, match="MEDSEG_PYTHON"):
        find_interpreter()


def test_one_of_slicers_own_pythons_is_not_foreign(a_slicer: Path, a_program: Callable[..., Path]) -> None:
    real = a_program("exit 0", "python-real", "Slicer-5.13/bin")
    assert not find_interpreter(str(real)).foreign
    assert not find_interpreter(str(a_slicer)).foreign


SLICERS = {
    "PYTHONHOME": "/opt/slicer/lib/Python",
    "PYTHONPATH": "/opt/slicer/bin/Python",
    "LD_LIBRARY_PATH": "/opt/slicer/lib",
    "DYLD_LIBRARY_PATH": "/opt/slicer/lib",
    "QT_PLUGIN_PATH": "/opt/slicer/lib/QtPlugins",
    "SLICER_HOME": "/opt/slicer",
    "PATH": os.pathsep.join(["/opt/slicer/bin", "/usr/bin", "/opt/slicerx/bin"]),
    "HOME": "/home/somebody",
    "MEDSEG_HOME": "/data/medseg",
}


def test_a_foreign_python_sees_nothing_of_slicer(tmp_path: Path) -> None:
    foreign = PythonInterpreter(tmp_path / "python", "setting", foreign=True)
    assert worker_environment(foreign, current=SLICERS) == {
        "PATH": os.pathsep.join(["/usr/bin", "/opt/slicerx/bin"]),
        "HOME": "/home/somebody",
        "MEDSEG_HOME": "/data/medseg",
    }


def test_a_foreign_python_gets_the_environment_from_before_slicers_start(tmp_path: Path) -> None:
    foreign = PythonInterpreter(tmp_path / "python", "setting", foreign=True)
    before = {"PATH": "/usr/bin", "LANG": "de_DE.UTF-8", "PYTHONPATH": "/home/somebody/code"}
    assert worker_environment(foreign, before, current=SLICERS) == {
        "PATH": "/usr/bin",
        "LANG": "de_DE.UTF-8",
        "MEDSEG_HOME": "/data/medseg",
    }


def test_slicers_python_keeps_what_its_launcher_has_set(tmp_path: Path) -> None:
    own = PythonInterpreter(tmp_path / "PythonSlicer", "PythonSlicer")
    assert worker_environment(own, {"PATH": "/usr/bin"}, current=SLICERS) == SLICERS


def test_this_python_has_what_the_worker_needs() -> None:
    report = check_interpreter(sys.executable)
    assert report.ok, report.problems
    assert report.python == ".".join(map(str, sys.version_info[:3]))
    assert set(report.packages) == {"numpy", "SimpleITK", "torch", "monai"}
    assert "torch" in report.summary()


def probe_answer(**changes: Any) -> str:
    facts = {
        "python": "3.12.1",
        "packages": {"numpy": "2.4.0", "SimpleITK": "2.5.0", "torch": "2.13.0+cu130", "monai": "1.6"},
        "errors": {},
        "cuda": True,
        "cuda_devices": ["A GPU"],
        **changes,
    }
    return f"echo noise; echo 'MEDSEG-PROBE {json.dumps(facts)}'"


def test_a_good_python_is_reported_with_its_gpu(a_program: Callable[..., Path]) -> None:
    report = check_interpreter(a_program(probe_answer()))
    assert report.ok
    assert report.cuda
    assert report.summary().endswith("GPU: A GPU.")


@pytest.mark.parametrize(
    ("program", "cause", "next_step"),
    [
        ("exit 3", "does not work as a Python interpreter (it ended with code 3)", "Choose the python program"),
        ("echo MEDSEG-PROBE nonsense", "does not work as a Python", "Choose the python program"),
        (probe_answer(python="3.8.10"), "is Python 3.8.10, too old", "with Python 3.10 or newer"),
        (
            probe_answer(
                packages={"numpy": "2.0", "SimpleITK": "2.5"}, errors={"torch": "missing", "monai": "missing"}
            ),
            "lacks torch and monai",
            "-m pip install torch monai",
        ),
        (
            probe_answer(packages={"numpy": "2.0", "SimpleITK": "2.5", "torch": "1.13.1", "monai": "1.6"}),
            "torch 1.13.1, older than the 2.2",
            "pip install -U torch",
        ),
        (
            probe_answer(errors={"torch": "OSError: libcudart.so.12 is missing"}),
            "torch is installed in",
            "Reinstall it there",
        ),
    ],
)
def test_a_python_that_will_not_do_is_told_with_cause_and_next_step(
    a_program: Callable[..., Path], program: str, cause: str, next_step: str
) -> None:
    report = check_interpreter(a_program(program))
    assert not report.ok
    assert len(report.problems) == 1
    assert cause in report.problems[0]
    assert next_step in report.problems[0]
    assert report.summary() == report.problems[0]


def test_slicers_python_without_torch_points_to_the_panel(a_program: Callable[..., Path]) -> None:
    packages = {"numpy": "2.0", "SimpleITK": "2.5", "monai": "1.6"}
    slicers = a_program(probe_answer(packages=packages, errors={"torch": "missing"}), "PythonSlicer")
    assert "extension PyTorch" in check_interpreter(slicers).problems[0]


def test_a_python_that_hangs_is_ended_with_its_children(a_program: Callable[..., Path], tmp_path: Path) -> None:
    hanging = a_program(f"sleep 600 & echo $! > {tmp_path / 'pid'}; wait")
    report = check_interpreter(hanging, timeout=2.0)
    assert "did not answer" in report.problems[0]
    child = int((tmp_path / "pid").read_text())
    until(lambda: is_gone(child), "the end of the child")


@pytest.mark.parametrize("bytes_of_program", [b"\x7fELF broken", b"MZ for Windows", b""])
def test_a_program_for_another_computer_is_told(tmp_path: Path, bytes_of_program: bytes) -> None:
    program = tmp_path / "python"
    program.write_bytes(bytes_of_program)
    program.chmod(0o700)
    assert len(check_interpreter(program).problems) == 1


def test_a_file_without_permission_to_run_is_told(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o600)
    assert "not a program that may be run" in check_interpreter(program).problems[0]


def test_a_missing_file_is_told() -> None:
    assert "There is no Python at" in check_interpreter("/nowhere/python").problems[0]


def test_the_probe_is_readable_for_very_old_pythons() -> None:
    source = interpreters.Path(interpreters.__file__).with_name("probe.py").read_text(encoding="ascii")
    compile(source, "probe.py", "exec")
    for novelty in ('f"', "f'", ":=", "->", "from __future__ import annotations", "pathlib"):
        assert novelty not in source


@pytest.mark.parametrize(
    ("text", "numbers"), [("2.13.0+cpu", (2, 13, 0)), ("1.4rc1", (1, 4)), ("?", ()), (" 2.2.0.dev2024", (2, 2, 0))]
)
def test_versions_compare_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_tuple(text) == numbers
    assert package_problem("torch", "2.10.0", "2.2") is None
    assert package_problem("torch", "2.1", "2.2") is not None
    assert package_problem("torch", None, "2.2") is None


def test_a_worker_that_cannot_start_says_what_is_wrong_with_its_python(
    a_program: Callable[..., Path], a_small_volume: Volume
) -> None:
    bad = a_program(probe_answer(python="3.7.3"))
    job = WorkerClient(PythonInterpreter(bad, "setting", foreign=True)).submit("segment", "m", [a_small_volume])
    assert job.wait(120)
    assert isinstance(job.error, WorkerError)
    assert "could not be started" in str(job.error)
    assert "Python 3.7.3, too old" in str(job.error)


def test_a_worker_that_says_nothing_is_ended(
    a_program: Callable[..., Path], a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_worker, "START_SECONDS", 0.3)
    silent = a_program(f'case "$*" in *probe*) {probe_answer()};; *) sleep 600;; esac')
    job = WorkerClient(PythonInterpreter(silent, "setting")).submit("segment", "m", [a_small_volume])
    assert job.wait(120)
    assert "could not be started" in str(job.error)


def test_the_launcher_brings_this_medseg_and_nothing_that_lies_beside_it(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    shutil.copytree(
        interpreters.Path(interpreters.__file__).parents[1],
        site / "medseg",
        ignore=shutil.ignore_patterns("__pycache__", "*.pt"),
    )
    (site / "neighbour.py").write_text("")
    (site / "medseg" / "telltale.py").write_text(
        "import importlib.util, medseg\n"
        "def main(arguments):\n"
        "    found = [importlib.util.find_spec(name) for name in ('neighbour', 'client')]\n"
        "    print(medseg.__file__, arguments, *found)\n"
    )
    launch = site / "medseg" / "backend" / "launch.py"
    done = subprocess.run(
        [sys.executable, str(launch), "medseg.telltale", "--one"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{site / 'medseg' / '__init__.py'} ['--one'] None None"
