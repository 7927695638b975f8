"""Which device computes, and how much memory it has. torch is imported inside the functions that need it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import DeviceError

_LOG = logging.getLogger(__name__)
_UNLIMITED = 1 << 60  # control groups of version 1 write "no limit" as a number near 2^63


@dataclass(frozen=True)
class DeviceChoice:
    """The device a run will use.

    ``device`` is torch's name ("cpu", "cuda:0"), ``name`` the hardware's, ``reason`` one sentence that says why this
    one; ``fell_back`` is true when the user asked for a GPU and does not get one (worth a notice).
    """

    device: str
    name: str
    reason: str
    fell_back: bool = False


def choose_device(requested: str = "auto") -> DeviceChoice:
    """Choose the device for ``requested``: "auto", "cpu", "cuda" or "cuda:N".

    "auto" and "cuda" take the first CUDA device that the installed torch can really use. When there is none, the
    processor is used and ``reason`` says why, also when "cuda" was asked for: a slow result is better than none.

    Raises
    ------
    DeviceError
        When ``requested`` is none of these words.
    """
    wanted = requested.strip().lower()
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", wanted)
    if wanted == "cpu":
        return DeviceChoice("cpu", processor_name(), "The processor was chosen.")
    if wanted != "auto" and match is None:
        message = f'There is no device "{requested}".'
        raise DeviceError(message, advice='Choose "auto", "cpu" or "cuda".')
    index = int(match.group(1)) if match is not None and match.group(1) else None
    found, why_not = _first_usable_gpu(index)
    if found is not None:
        position, name = found
        return DeviceChoice(f"cuda:{position}", name, f"The GPU {name} is used.")
    return DeviceChoice("cpu", processor_name(), f"The processor is used: {why_not}", fell_back=match is not None)


def _first_usable_gpu(index: int | None) -> tuple[tuple[int, str] | None, str]:
    """Return ((position, name), "") of the first usable CUDA device, or (None, the reason as part of a sentence)."""
    try:
        import torch
    except ImportError as error:
        return None, f"PyTorch cannot be imported ({error})."
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return None, "the installed PyTorch is built without GPU support."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        said = _one_line(str(caught[0].message)) if caught else ""
        return None, f"PyTorch finds no usable GPU driver ({said})." if said else "PyTorch finds no usable GPU."
    count = torch.cuda.device_count()
    if index is not None and index >= count:
        return None, f"there is no GPU number {index} (GPUs found: {count})."
    reasons = []
    for position in range(count) if index is None else [index]:
        problem = _gpu_problem(torch, position)
        if problem is None:
            return (position, torch.cuda.get_device_name(position)), ""
        reasons.append(problem)
    return None, " ".join(reasons) or "PyTorch finds no usable GPU."


def _gpu_problem(torch: Any, position: int) -> str | None:
    """Return why a CUDA device cannot be used, or None."""
    name = torch.cuda.get_device_name(position)
    if getattr(torch.version, "hip", None) is None:
        capability = torch.cuda.get_device_capability(position)
        if not is_supported_capability(capability, torch.cuda.get_arch_list()):
            major, minor = capability
            return (
                f"the installed PyTorch {torch.__version__} does not support the GPU {name} "
                f"(compute capability {major}.{minor}); a PyTorch build for it would make runs faster."
            )
    try:
        # Drivers and builds that do not fit each other show only when a kernel really runs.
        (torch.zeros(1, device=f"cuda:{position}") + 1).item()
    except (RuntimeError, AssertionError) as error:
        return f"the GPU {name} did not pass a first computation ({_one_line(str(error))})."
    return None


def is_supported_capability(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Return whether code for one of ``architectures`` runs on a CUDA device of this compute capability.

    ``architectures`` is what ``torch.cuda.get_arch_list()`` gives. ``sm_XY`` is machine code: it runs on the same
    major version from the minor version Y on; with the suffix "a" only on exactly XY, with "f" within the family.
    ``compute_XY`` is intermediate code that the driver translates for anything from XY on (CUDA C++ Programming
    Guide, sections "Binary Compatibility" and "PTX Compatibility").
    """
    for architecture in architectures:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
        if match is None:
            continue
        kind, major, minor, suffix = match.group(1), int(match.group(2)), int(match.group(3)), match.group(4)
        if suffix == "a":
            fits = capability == (major, minor)
        elif kind == "sm" or suffix == "f":
            fits = capability[0] == major and capability[1] >= minor
        else:
            fits = capability >= (major, minor)
        if fits:
            return True
    return False


def processor_name() -> str:
    """Return the processor's name as the system tells it, else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "CPU"


def _one_line(text: str, limit: int = 160) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def total_memory(device: str = "cpu") -> int:
    """Return the memory of ``device`` in bytes; for "cpu" what this process may use (a control group counts)."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return _system_memory()[1]


def available_memory(device: str = "cpu") -> int:
    """Return the memory of ``device`` that a run could still take, in bytes.

    For "cpu": what the system calls available (caches that it would give up included), at most what the control group
    (container, batch system) still allows. For CUDA: free memory plus what torch holds but does not use.
    """
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + int(torch.cuda.memory_reserved(device)) - int(torch.cuda.memory_allocated(device))
    return _system_memory()[0]


def _system_memory() -> tuple[int, int]:
    """Return (available, total) bytes of main memory."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, KeyError, ValueError):
            return _linux_memory(Path("/proc"), Path("/sys/fs/cgroup"))
    if sys.platform == "win32":
        return _windows_memory()
    try:
        import psutil
    except ImportError:
        return _unix_memory()
    memory = psutil.virtual_memory()
    return int(memory.available), int(memory.total)


def _linux_memory(proc: Path, cgroups: Path) -> tuple[int, int]:
    facts = {}
    for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        facts[key] = int(value.split()[0]) * 1024 if value.strip() else 0
    available, total = facts["MemAvailable"], facts["MemTotal"]
    for limit, used in _cgroup_limits(proc, cgroups):
        total = min(total, limit)
        available = min(available, max(limit - used, 0))
    return available, total


def _cgroup_limits(proc: Path, cgroups: Path) -> list[tuple[int, int]]:
    """Return (limit, used) bytes of every control group, from this process's up to the root, that has a limit."""
    found = []
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, name = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            root, limit_file, used_file, cache_key = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, cache_key = cgroups / "memory", "total_inactive_file"
            limit_file, used_file = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = root / name.strip("/")
        # Inside a container the named folder may be out of sight; the root then is the container's own group.
        for group in [folder, *folder.parents]:
            with contextlib.suppress(OSError, ValueError):
                limit = int((group / limit_file).read_text(encoding="ascii"))
                used = int((group / used_file).read_text(encoding="ascii")) - _cgroup_cache(group, cache_key)
                if limit < _UNLIMITED:
                    found.append((limit, max(used, 0)))
            if group == root:
                break
    return found


def _cgroup_cache(group: Path, key: str) -> int:
    """Return the bytes of file cache that the kernel would give up first."""
    with contextlib.suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def _unix_memory() -> tuple[int, int]:
    """Memory of macOS and other systems without psutil."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    try:
        text = subprocess.run(["vm_stat"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        _LOG.debug("vm_stat is not here; half of the memory is taken as available")
        return total // 2, total
    return parse_vm_stat(text, page), total


def parse_vm_stat(text: str, page_size: int) -> int:
    """Return the available bytes from the output of macOS's ``vm_stat``: free, inactive and speculative pages."""
    match = re.search(r"page size of (\d+) bytes", text)
    page_size = int(match.group(1)) if match else page_size
    pages = 0
    for kind in ("free", "inactive", "speculative"):
        match = re.search(rf"Pages {kind}:\s+(\d+)", text)
        pages += int(match.group(1)) if match else 0
    return pages * page_size


class _WindowsMemoryStatus(ctypes.Structure):
    _fields_ = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("total_page_file", ctypes.c_uint64),
        ("available_page_file", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("available_virtual", ctypes.c_uint64),
        ("available_extended", ctypes.c_uint64),
    ]


def _windows_memory() -> tuple[int, int]:
    status = _WindowsMemoryStatus()
    status.length = ctypes.sizeof(status)
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009 - mypy on Linux does not know the attribute
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise DeviceError("Windows does not say how much memory there is.", advice="Please restart the program.")
    return int(status.available), int(status.total)


class _WindowsMemoryCounters(ctypes.Structure):
    _fields_ = [
        ("length", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        ("working_set", ctypes.c_size_t),
        ("quota_peak_paged_pool", ctypes.c_size_t),
        ("quota_paged_pool", ctypes.c_size_t),
        ("quota_peak_nonpaged_pool", ctypes.c_size_t),
        ("quota_nonpaged_pool", ctypes.c_size_t),
        ("pagefile", ctypes.c_size_t),
        ("peak_pagefile", ctypes.c_size_t),
    ]


def peak_memory() -> int:
    """Return the most main memory, in bytes, that this process has held at any moment since it started (0: unknown)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        counters = _WindowsMemoryCounters()
        counters.length = ctypes.sizeof(counters)
        windll: Any = getattr(ctypes, "windll")  # noqa: B009 - mypy on Linux does not know the attribute
        windll.kernel32.GetCurrentProcess.restype = ctypes.c_void_p
        process = ctypes.c_void_p(windll.kernel32.GetCurrentProcess())
        if windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.length):
            return int(counters.peak_working_set)
        return 0
    import resource

    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024


def release_memory() -> None:
    """Give back what is no longer used: Python's garbage, torch's caches, and the C heap on systems with glibc.

    After a cancelled or finished run the allocators otherwise keep hundreds of megabytes for a next time.
    """
    import gc

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
