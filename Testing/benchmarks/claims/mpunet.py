"""MPU-Net segments better than a plain U-Net, and its attention over the whole image has a part in that.

The first half is what Yu and Han (arXiv 2307.05799) report, the second what they build it for. They compare MPU-Net
with a U-Net that has a tenth of its parameters and no normalisation, and take none of its parts away. Here its parts
are taken away one by one where a label hangs on a cue that no convolution reaches, and it meets U-Nets of equal size
that have normalisation, there and on real hippocampi.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from benchmarks.claims.fitting import (
    each_on_one_thread,
    fit,
    is_fast_in_bfloat16,
    mean_and_std,
    mean_of,
    parameters_of,
    seed_everything,
)
from benchmarks.claims.mpunet_data import FAR, NEAR, Scene, draw_pair, random_patch, read_hippocampi
from benchmarks.claims.report import QUICK_RUN, ClaimReport, counted
from medseg.metrics import dice
from medseg.networks import build_network
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.objectives.base import Objective
from medseg.training.objectives.tversky import TverskyCESection

CLASSES = 3
MPUNET, DYNUNET = "medseg.networks.MPUNet", "monai.networks.nets.DynUNet"
PHANTOMS, HIPPOCAMPI = "distant cue", "hippocampi"
BATCH, INSTANCE = {"normalise": "batch"}, {"normalise": "instance"}
NO_ATTENTION = {"position_attention": False}

FULL, WITHOUT = "MPU-Net, batch norm", "MPU-Net, batch norm, no attention"
PRESET, UNET = "MPU-Net, instance norm", "U-Net, instance norm"

_COLUMNS = ("data", "network", "loss", "parameters", "near / Dice 1", "far / Dice 2", "seconds per step")


@dataclass(frozen=True)
class Setup:
    """The size of the experiment; widths are a quarter of the published ones."""

    widths: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    steps: int = 300
    real_steps: int = 200
    testing: int = 12
    patch: tuple[int, int, int] = (32, 48, 32)
    cases: int | None = None


QUICK = Setup(widths=(2, 2, 4, 4, 8, 8), steps=2, real_steps=2, testing=1, patch=(16, 16, 16), cases=8)


@dataclass(frozen=True)
class Rival:
    """One row: a network, its arguments, and the loss that it is trained with ("tversky" or "dice")."""

    name: str
    target: str
    arguments: dict[str, Any]
    loss: str = "tversky"


def _unet(name: str, norm: str, *, pooled_to_the_end: bool = False, loss: str = "tversky") -> Rival:
    """A U-Net with as many parameters as MPU-Net and three poolings like that one, or two more along the long axis."""
    plan = {"norm": norm, "strides": [1, 2, 2, 2], "filters": [16, 32, 64, 120]}
    if pooled_to_the_end:
        plan |= {"strides": [1, 2, 2, 2, [2, 1, 1], [2, 1, 1]], "filters": [8, 8, 16, 32, 64, 128]}
    return Rival(name, DYNUNET, plan, loss)


RIVALS = {
    PHANTOMS: (
        Rival("MPU-Net as published", MPUNET, {}),
        Rival(FULL, MPUNET, BATCH),
        Rival(WITHOUT, MPUNET, {**BATCH, **NO_ATTENTION}),
        Rival("MPU-Net, batch norm, no gates", MPUNET, {**BATCH, "gate": "none"}),
        Rival("MPU-Net, batch norm, one scale", MPUNET, {**BATCH, "multiscale_output": False}),
        Rival(FULL, MPUNET, BATCH, "dice"),
        Rival(PRESET, MPUNET, INSTANCE),
        Rival("MPU-Net, instance norm, no attention", MPUNET, {**INSTANCE, **NO_ATTENTION}),
        _unet("U-Net, batch norm", "batch"),
        _unet("U-Net, batch norm, pooled to the end", "batch", pooled_to_the_end=True),
        _unet(UNET, "instance"),
    ),
    HIPPOCAMPI: (
        Rival("MPU-Net as published", MPUNET, {}),
        Rival(PRESET, MPUNET, INSTANCE),
        Rival("MPU-Net, instance norm, no attention", MPUNET, {**INSTANCE, **NO_ATTENTION}),
        _unet(UNET, "instance"),
        _unet(UNET, "instance", loss="dice"),
    ),
}


@dataclass(frozen=True)
class Job:
    """One network to train and measure."""

    world: str
    rival: int
    seed: int
    setup: Setup
    folder: Path | None = None


@dataclass(frozen=True)
class Result:
    """What became of a job.

    ``first`` and ``second`` are, for phantoms, the shares of blob voxels that got their class right among near and far
    blobs; for hippocampi the mean Dice of the anterior and the posterior part.
    """

    job: Job
    first: float
    second: float
    seconds_per_step: float

    @property
    def rival(self) -> Rival:
        return RIVALS[self.job.world][self.job.rival]


def run(
    *,
    quick: bool = False,
    seeds: int = 3,
    threads: int = 2,
    data: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> ClaimReport:
    """Train every rival with every seed and compare: see the module."""
    begun = perf_counter()
    setup = QUICK if quick else Setup()
    folder = data / "mr-hippocampus" if data else None
    worlds = [PHANTOMS, HIPPOCAMPI] if folder and folder.is_dir() else [PHANTOMS]
    jobs = [
        Job(world, rival, seed, setup, folder)
        for world in worlds
        for seed in range(seeds)
        for rival in range(len(RIVALS[world]))
    ]
    results = each_on_one_thread(measured, jobs, workers=threads, progress=progress)
    return _report(results, setup, seeds, threads, seconds=perf_counter() - begun)


def measured(job: Job, progress: Progress = NO_PROGRESS) -> Result:
    """Train the network of a job and measure it on what it has not seen."""
    seed_everything(job.seed)
    rival = RIVALS[job.world][job.rival]
    network = new_network(rival, job.setup)
    rng = np.random.default_rng((job.seed, 1))
    if job.world == PHANTOMS:
        draw: Callable[[], Sequence[Scene]] = functools.partial(draw_pair, rng)
        steps, unseen = job.setup.steps, np.random.default_rng((job.seed, 2))
        tests = [scene for _ in range(job.setup.testing) for scene in draw_pair(unseen)]
    else:
        assert job.folder is not None
        cases = read_hippocampi(job.folder, job.setup.cases)
        training = [case for index, case in enumerate(cases) if index % 4]
        steps, tests = job.setup.real_steps, cases[::4]

        def draw() -> Sequence[Scene]:
            return [random_patch(training[int(rng.integers(len(training)))], job.setup.patch, rng)]

    fitted = fit(
        network,
        lambda _step: _batch(draw()),
        _criterion(rival),
        steps=steps,
        lr=3e-3 if job.world == PHANTOMS else 1e-3,
        gradient_norm=1.0,
        progress=progress,
    )
    first, second = _right(network, tests) if job.world == PHANTOMS else _dice(network, tests)
    return Result(job, first, second, fitted.seconds_per_step)


def new_network(rival: Rival, setup: Setup) -> nn.Module:
    """Return a rival with fresh weights."""
    if rival.target == MPUNET:
        return build_network(MPUNET, {"out_channels": CLASSES, "widths": list(setup.widths), **rival.arguments})
    plan = rival.arguments
    levels = len(plan["filters"])
    return build_network(
        DYNUNET,
        {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": CLASSES,
            "kernel_size": [3] * levels,
            "strides": plan["strides"],
            "upsample_kernel_size": plan["strides"][1:],
            "filters": [2] * levels if setup == QUICK else plan["filters"],
            "norm_name": ["instance", {"affine": True}] if plan["norm"] == "instance" else "batch",
            "deep_supervision": True,
            "deep_supr_num": levels - 2,
        },
    )


def _criterion(rival: Rival) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    objective = (
        TverskyCESection(kind="tversky_ce", softmax=rival.target == DYNUNET).build(CLASSES)
        if rival.loss == "tversky"
        else _Dice(softmax=rival.target == DYNUNET)
    )

    def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_fast_in_bfloat16()):
            outputs = network(batch["image"])
        return objective(outputs, batch)["loss"]

    return loss


class _Dice(Objective):
    """The soft Dice loss of all outputs, coarser ones with the weight that MPU-Net's loss begins with."""

    def __init__(self, *, softmax: bool) -> None:
        super().__init__()
        self._softmax, self._dice = softmax, DiceLoss(to_onehot_y=True, include_background=False)

    def forward(self, outputs: Any, batch: Any) -> dict[str, Tensor]:
        maps = list(outputs.unbind(1))[::-1] if isinstance(outputs, Tensor) and outputs.ndim == 6 else outputs
        maps = [maps] if isinstance(maps, Tensor) else list(maps)
        terms = [self._dice(self._probabilities(one), batch["classes"][:, None]) for one in maps]
        return {"loss": terms[-1] + 0.4 * sum(terms[:-1], start=torch.zeros(()))}

    def _probabilities(self, output: Tensor) -> Tensor:
        return output.float().softmax(1) if self._softmax else output.float()


def _batch(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    return {
        "image": torch.from_numpy(np.stack([scene.image for scene in scenes]))[:, None],
        "classes": torch.from_numpy(np.stack([scene.classes for scene in scenes])),
        "annotated": torch.ones(len(scenes), CLASSES, dtype=torch.bool),
    }


def _predicted(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """Return the classes of an image that is filled up with zeros to multiples of 16."""
    rests = [-size % 16 for size in image.shape]
    padded = F.pad(torch.from_numpy(image)[None, None], (0, rests[2], 0, rests[1], 0, rests[0]))
    with torch.inference_mode():
        classes = network(padded)[0].argmax(0).numpy()
    i, j, k = image.shape
    return classes[:i, :j, :k]


def _right(network: nn.Module, scenes: Sequence[Scene]) -> tuple[float, float]:
    """Return the share of blob voxels with the right class, near the cue and far from it."""
    found = [_predicted(network, scene.image) for scene in scenes]
    shares = []
    for reach in (NEAR, FAR):
        right = total = 0
        for scene, classes in zip(scenes, found, strict=True):
            truth, mine = scene.classes[scene.part(reach)], classes[scene.part(reach)]
            right += int(((mine == truth) & (truth > 0)).sum())
            total += int((truth > 0).sum())
        shares.append(right / total)
    return shares[0], shares[1]


def _dice(network: nn.Module, cases: Sequence[Scene]) -> tuple[float, float]:
    found = [_predicted(network, case.image) for case in cases]
    first, second = (
        mean_of(dice(mine == value, case.classes == value) for mine, case in zip(found, cases, strict=True))
        for value in (1, 2)
    )
    return first, second


def _report(results: Sequence[Result], setup: Setup, seeds: int, threads: int, *, seconds: float) -> ClaimReport:
    real = any(result.job.world == HIPPOCAMPI for result in results)
    rows = []
    for world, rivals in RIVALS.items():
        for index, rival in enumerate(rivals):
            own = [result for result in results if (result.job.world, result.job.rival) == (world, index)]
            if own:
                rows.append(_row(world, rival, own, setup))
    verdicts = [attention_verdict(results)] + ([real_verdict(results)] if real else [])
    if setup == QUICK:
        verdicts.insert(0, QUICK_RUN)
    notes = [
        (
            f"Mean ± standard deviation of {counted(seeds, 'seed')}; {counted(threads, 'network')}"
            " at a time, each on one thread. AdamW, cosine decay, no augmentation."
        ),
        (
            f"Distant cue: {setup.steps} steps of two scenes of 192 x 8 x 8 voxels that differ in their cue only. The "
            "share of blob voxels with the right class (chance 0.5), near (19 to 75 voxels behind the cue) and far "
            "(145 to 181). Without attention MPU-Net reaches 129 voxels, the U-Net with three poolings 44."
        ),
        (
            "Instance normalisation takes mean and variance over the whole image, in use too, and so carries a cue to "
            "every voxel by itself; batch normalisation does not. That is why position attention is judged with the "
            "latter."
        ),
        (
            f"Hippocampi: {setup.real_steps} steps of one patch; Dice of the anterior (1) and the posterior (2) part "
            "of every fourth of 100 cases, trained on the others."
        ),
        (
            "tversky: Tversky + cross-entropy with deep supervision, as MPU-Net is trained, for every network; dice: "
            "the soft Dice loss instead. Every U-Net (MONAI's DynUNet) has as many parameters as MPU-Net."
        ),
    ]
    if not real:
        notes.append("No hippocampi were at hand (--data), so the phantoms stand alone.")
    return ClaimReport(
        title="MPU-Net: what its parts are worth, and a U-Net of equal size",
        claim="MPU-Net segments better than a U-Net (Yu and Han); that its position attention is a reason for it is"
        " what they expect and do not measure.",
        columns=_COLUMNS,
        rows=tuple(rows),
        verdict=" ".join(verdicts),
        notes=tuple(notes),
        seconds=seconds,
    )


def _row(world: str, rival: Rival, results: Sequence[Result], setup: Setup) -> tuple[str, ...]:
    return (
        world,
        rival.name,
        rival.loss,
        f"{parameters_of(new_network(rival, setup)):,}",
        mean_and_std(result.first for result in results),
        mean_and_std(result.second for result in results),
        f"{mean_of(result.seconds_per_step for result in results):.2f}",
    )


def attention_verdict(results: Sequence[Result]) -> str:
    """Say whether position attention carries the cue where convolutions do not reach."""

    def far(name: str) -> float:
        return mean_of(
            result.second
            for result in results
            if result.job.world == PHANTOMS and result.rival.name == name and result.rival.loss == "tversky"
        )

    full, without, preset, unet = far(FULL), far(WITHOUT), far(PRESET), far(UNET)
    carries = full > without + 0.1 and without < 0.6
    needed = unet < min(full, preset) - 0.05
    return (
        f"Position attention {'carries' if carries else 'does not carry'} a cue where convolutions do not reach: "
        f"{full:.3f} with it and {without:.3f} without. "
        f"{'A' if needed else 'It is not needed for that: a'} U-Net of equal size with instance normalisation gets "
        f"{unet:.3f}, MPU-Net with the same {preset:.3f}."
    )


def real_verdict(results: Sequence[Result]) -> str:
    """Say whether MPU-Net beats a sound U-Net of equal size on real images."""

    def scores(wanted: Callable[[Rival], bool]) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for result in results:
            if result.job.world == HIPPOCAMPI and wanted(result.rival):
                found.setdefault(f"{result.rival.name} ({result.rival.loss})", []).append(
                    (result.first + result.second) / 2
                )
        return {name: mean_of(values) for name, values in found.items()}

    ours = scores(lambda rival: rival.name == PRESET)
    theirs = scores(lambda rival: rival.target == DYNUNET)
    (mine,), (best, other) = ours.values(), max(theirs.items(), key=lambda item: item[1])
    return (
        f"On hippocampi the claim {'holds' if mine > other else 'does not hold'}: mean Dice {mine:.3f} of the "
        f"normalised MPU-Net, {other:.3f} of the best U-Net of equal size, {best}."
    )
