"""The work folder between the program and the process that registers: files in, a transform and figures out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.device import peak_memory
from medseg.registration import read_transform, write_transform
from medseg.volumes import read_labelmap, read_volume, write_labelmap, write_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.registration.pair import Pair
    from medseg.registration import SpatialTransform
    from medseg.volumes import Volume

VOLUMES, MASKS = ("fixed", "moving"), ("fixed_mask", "moving_mask")


@dataclass(frozen=True)
class Costs:
    """What a registration took.

    Attributes
    ----------
    seconds, processor_seconds
        From the volumes in memory to the transform, by the wall clock and summed over the threads. Starting Python,
        importing and reading are not in it.
    peak_bytes
        The most main memory that the process held until then, with its libraries.
    """

    seconds: float
    processor_seconds: float
    peak_bytes: int


@dataclass
class Job:
    """One pair to register, in a folder.

    Attributes
    ----------
    folder
        Holds ``fixed.mha``, ``moving.mha``, and the masks when there are any.
    method
        Name of one of :data:`benchmarks.registration.methods.METHODS`.
    threads, seed
        For whatever takes them.
    modalities
        Of the fixed and of the moving volume, which their files do not tell.
    """

    folder: Path
    method: str
    threads: int
    seed: int = 0
    modalities: tuple[str, str] = ("", "")
    costs: Costs | None = None

    @classmethod
    def write(cls, folder: Path, pair: Pair, method: str, *, threads: int, seed: int) -> Job:
        """Lay the files of a pair into a folder; nothing of what is known about the pair is among them."""
        for name in VOLUMES:
            write_volume(getattr(pair, name), folder / f"{name}.mha", compress=False)
        for name in MASKS:
            if getattr(pair, name) is not None:
                write_labelmap(getattr(pair, name), folder / f"{name}.mha")
        job = cls(folder, method, threads, seed, (pair.fixed.modality, pair.moving.modality))
        told = {"method": method, "threads": threads, "seed": seed, "modalities": job.modalities}
        (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")
        return job

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Return the job that a folder holds."""
        told = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return cls(folder, told["method"], told["threads"], told["seed"], tuple(told["modalities"]))

    def path(self, name: str) -> Path | None:
        """Return the file of one of the volumes or masks; ``None`` when the pair has none."""
        path = self.folder / f"{name}.mha"
        return path if path.is_file() else None

    def volumes(self) -> tuple[Volume, Volume]:
        """Return the fixed and the moving volume with their modalities."""
        read = (
            dataclasses.replace(read_volume(self.folder / f"{name}.mha"), modality=modality)
            for name, modality in zip(VOLUMES, self.modalities, strict=True)
        )
        fixed, moving = read
        return fixed, moving

    def masks(self) -> dict[str, Volume | None]:
        """Return the masks by the names of :func:`medseg.registration.register`."""
        return {name: None if (path := self.path(name)) is None else read_labelmap(path) for name in MASKS}

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Take the costs of the block."""
        begun, processor = time.perf_counter(), time.process_time()
        yield
        self.costs = Costs(time.perf_counter() - begun, time.process_time() - processor, peak_memory())

    def finish(self, transform: SpatialTransform) -> None:
        """Write what was found and what it took."""
        if self.costs is None:
            raise RuntimeError(f"the method {self.method} was not measured")
        write_transform(transform, self.folder / "found.h5")
        (self.folder / "costs.json").write_text(json.dumps(dataclasses.asdict(self.costs)), encoding="utf-8")

    def fail(self, reason: str) -> None:
        """Write why nothing was found."""
        (self.folder / "failure.txt").write_text(reason, encoding="utf-8")

    def result(self) -> tuple[SpatialTransform, Costs] | str:
        """Return what the process found and what it took, or why it found nothing, "" when it does not say."""
        failure = self.folder / "failure.txt"
        if failure.is_file():
            return failure.read_text(encoding="utf-8")
        costs = self.folder / "costs.json"
        if not costs.is_file():
            return ""
        return read_transform(self.folder / "found.h5"), Costs(**json.loads(costs.read_text(encoding="utf-8")))
