"""The choice of the device and the memory that it has; a GPU is played by patching torch."""

from __future__ import annotations

import builtins
import os
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch

from medseg import device
from medseg.device import (
    available_memory,
    choose_device,
    is_supported_capability,
    parse_vm_stat,
    peak_memory,
    release_memory,
    total_memory,
)
from medseg.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give torch some GPUs of these compute capabilities."""

    def give(*capabilities: tuple[int, int], fails: str = "", architectures: list[str] = ARCHITECTURES) -> None:
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU{index}")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: architectures)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 << 30, 8 << 30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2 << 30)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1 << 30)

        def zeros(*size: int, device: str) -> torch.Tensor:
            if fails:
                raise RuntimeError(fails)
            return torch.ones(*size) * 0

        monkeypatch.setattr(torch, "zeros", zeros)

    return give


@pytest.mark.parametrize("asked", ["auto", "cuda", "CUDA", "cuda:0"])
def test_a_gpu_is_taken_when_there_is_one(gpus: Callable[..., None], asked: str) -> None:
    gpus((8, 6))
    choice = choose_device(asked)
    assert (choice.device, choice.name, choice.fell_back) == ("cuda:0", "GPU0", False)


def test_the_processor_is_taken_when_it_is_asked_for(gpus: Callable[..., None]) -> None:
    gpus((8, 6))
    choice = choose_device("cpu")
    assert choice.device == "cpu"
    assert choice.name


def test_the_first_gpu_that_torch_supports_is_taken(gpus: Callable[..., None]) -> None:
    gpus((3, 5), (9, 0))
    assert choose_device("auto").device == "cuda:1"
    assert choose_device("cuda:1").device == "cuda:1"


@pytest.mark.parametrize(("asked", "fell_back"), [("auto", False), ("cuda", True), ("cuda:0", True)])
def test_a_gpu_that_torch_does_not_support_is_left_with_a_sentence(
    gpus: Callable[..., None], asked: str, fell_back: bool
) -> None:
    gpus((5, 2))
    choice = choose_device(asked)
    assert choice.device == "cpu"
    assert choice.fell_back is fell_back
    assert "does not support the GPU GPU0 (compute capability 5.2)" in choice.reason


def test_a_gpu_on_which_nothing_runs_is_left_with_a_sentence(gpus: Callable[..., None]) -> None:
    gpus((8, 0), fails="CUDA error: no kernel image is available\nfor execution on the device")
    choice = choose_device("cuda")
    assert choice.device == "cpu"
    assert "no kernel image is available for execution" in choice.reason


def test_a_gpu_number_that_is_not_there_is_told(gpus: Callable[..., None]) -> None:
    gpus((8, 0))
    assert "no GPU number 3 (GPUs found: 1)" in choose_device("cuda:3").reason


def test_a_driver_that_is_too_old_is_told(gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus((8, 0))

    def unavailable() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    choice = choose_device("cuda")
    assert choice.fell_back
    assert "driver on your system is too old" in choice.reason


def test_a_torch_without_gpu_support_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without GPU support" in choose_device("cuda").reason
    assert choose_device("auto").device == "cpu"


def test_without_torch_the_processor_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_torch(name: str, *args: Any) -> Any:
        if name == "torch":
            raise ImportError("no torch here")
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    assert "PyTorch cannot be imported" in choose_device("auto").reason


@pytest.mark.parametrize("asked", ["gpu", "", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "mps"])
def test_a_device_that_nobody_knows_is_refused(asked: str) -> None:
    with pytest.raises(DeviceError, match='Choose "auto", "cpu" or "cuda"'):
        choose_device(asked)


@pytest.mark.parametrize(
    ("capability", "architectures", "supported"),
    [
        ((8, 6), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((7, 0), ["compute_75"], False),
        ((12, 0), ["sm_120"], True),
        ((10, 0), ["sm_120"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((10, 3), ["sm_100f"], True),
        ((11, 0), ["sm_100f"], False),
        ((8, 0), ["gfx90a", "nonsense"], False),
        ((8, 0), [], False),
    ],
)
def test_code_runs_on_the_capabilities_that_nvidia_says(
    capability: tuple[int, int], architectures: list[str], supported: bool
) -> None:
    assert is_supported_capability(capability, architectures) is supported


def test_the_memory_of_a_gpu_counts_what_torch_holds_unused(gpus: Callable[..., None]) -> None:
    gpus((8, 0))
    assert available_memory("cuda:0") == 4 << 30


def test_the_memory_of_this_computer_is_what_the_system_tells() -> None:
    memory = psutil.virtual_memory()
    assert 0 < available_memory() <= total_memory() <= memory.total
    assert available_memory() <= memory.available * 1.2


@pytest.fixture
def a_computer(tmp_path: Path) -> Callable[..., tuple[int, int]]:
    """Measure the memory of a computer described by a few files."""

    def measure(cgroup: str = "", **files: str) -> tuple[int, int]:
        proc, groups = tmp_path / "proc", tmp_path / "cgroup"
        (proc / "self").mkdir(parents=True)
        (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 800 kB\nHugePages_Total: 0\n")
        (proc / "self" / "cgroup").write_text(cgroup)
        for name, text in files.items():
            path = groups / name.replace("__", "/").replace("_", ".", 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return device._linux_memory(proc, groups)

    return measure


def test_without_a_control_group_the_computers_memory_counts(a_computer: Callable[..., tuple[int, int]]) -> None:
    assert a_computer() == (800 * 1024, 1000 * 1024)


def test_the_limit_of_a_container_counts(a_computer: Callable[..., tuple[int, int]]) -> None:
    files = {"memory_max": "600000", "memory_current": "500000", "memory_stat": "anon 1\ninactive_file 200000\n"}
    assert a_computer("0::/\n", **files) == (300_000, 600_000)


def test_the_tightest_of_nested_groups_counts(a_computer: Callable[..., tuple[int, int]]) -> None:
    files = {"job__memory_max": "max", "job__memory_current": "5", "memory_max": "600000", "memory_current": "100000"}
    assert a_computer("0::/job\n", **files) == (500_000, 600_000)


def test_the_first_version_of_control_groups_counts_too(tmp_path: Path) -> None:
    proc, group = tmp_path / "proc", tmp_path / "cgroup" / "memory" / "job"
    (proc / "self").mkdir(parents=True)
    group.mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 800 kB\n")
    (proc / "self" / "cgroup").write_text("3:cpu:/job\n2:blkio,memory:/job\n")
    (group / "memory.limit_in_bytes").write_text("400000")
    (group / "memory.usage_in_bytes").write_text("100000")
    (group.parent / "memory.limit_in_bytes").write_text(str((1 << 63) - 4096))
    (group.parent / "memory.usage_in_bytes").write_text("999999")
    assert device._linux_memory(proc, tmp_path / "cgroup") == (300_000, 400_000)


def test_the_free_memory_of_a_mac_is_read_from_vm_stat() -> None:
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:   100.\nPages active: 5000.\n"
        "Pages inactive:  20.\nPages speculative:  3.\n"
    )
    assert parse_vm_stat(text, 4096) == 123 * 16384


def test_a_system_of_another_kind_is_asked_through_psutil_or_vm_stat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "sys", types.SimpleNamespace(platform="darwin", modules=sys.modules))
    assert 0 < available_memory() <= total_memory() <= psutil.virtual_memory().total
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert total_memory() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_memory() <= total_memory()


def test_the_peak_of_memory_grows_with_what_is_held() -> None:
    before = peak_memory()
    held = bytearray(64 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    assert peak_memory() >= psutil.Process().memory_info().rss - (8 << 20)
    assert peak_memory() >= before > 0


def test_memory_can_be_released_at_any_time() -> None:
    release_memory()
    assert available_memory() > 0
