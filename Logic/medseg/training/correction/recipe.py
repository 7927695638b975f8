"""The recipe of a network that follows clicks: ``task: correction`` in a YAML file, checked key by key."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medseg.training.correction.samples import SampleSection
from medseg.training.correction.sources import AnySource, LabelledSource
from medseg.training.section import Section
from medseg.training.sections import AboutSection, NetworkSection, ScheduleSection
from medseg.training.yaml_files import checked_recipe, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

STEP = 16
"""Sizes of the window are multiples of this; a network may want more, which shows before a run begins."""


class ClicksSection(Section):
    """The simulated user.

    ``radius`` of the ball around a click in voxels of the window; up to ``most`` further clicks come before the graded
    pass; ``self_loop`` lets the first answer from nothing enter a second pass.
    """

    radius: Annotated[float, Field(ge=0.5, le=16)] = 2.0
    most: Annotated[int, Field(ge=0, le=20)] = 3
    self_loop: bool = True


class CorrectionPackageSection(AboutSection):
    """What the exported package says about itself; ``domain`` names in a phrase what it is for."""

    domain: Annotated[str, Field(min_length=1, max_length=300)]


class MeasuringSection(Section):
    """How the network is measured on the cases kept aside: up to ``structures`` of each source, so many ``clicks``."""

    structures: Annotated[int, Field(ge=1)] = 12
    clicks: Annotated[int, Field(ge=1, le=20)] = 5


class CorrectionRecipe(Section):
    """A whole recipe; :func:`medseg.training.tasks.read_any_recipe` makes it from a file.

    ``window`` is the size (k, j, i) of the grid in which the network sees a structure; with 1 as the first size it sees
    single slices, in any of the three directions of a scan, and is a network in 2D. What is minimised is the
    normalised focal loss of PE-MED and, ours, ``dice_weight`` times the Dice loss. With ``gamma`` 0 the former is
    half of the cross entropy.
    """

    task: Literal["correction"] = "correction"
    seed: int = 0
    start_from: str | None = None
    package: CorrectionPackageSection
    window: tuple[int, int, int] = (64, 64, 64)
    sources: Annotated[tuple[AnySource, ...], Field(min_length=1)]
    samples: SampleSection = SampleSection()
    clicks: ClicksSection = ClicksSection()
    gamma: Annotated[float, Field(ge=0, le=5)] = 2.0
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    network: NetworkSection
    optimisation: ScheduleSection
    evaluation: MeasuringSection = MeasuringSection()

    @field_validator("window")
    @classmethod
    def _multiples(cls, window: tuple[int, int, int]) -> tuple[int, int, int]:
        sizes = window[1:] if window[0] == 1 else window
        if any(size < STEP or size % STEP for size in sizes):
            raise ValueError(f"must be multiples of {STEP}, but for a 1 in the first place, which stands for slices")
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            raise ValueError("must be square for slices")
        return window

    @model_validator(mode="after")
    def _goes_together(self) -> CorrectionRecipe:
        folders = [(source.folder, source.pattern) for source in self.sources if isinstance(source, LabelledSource)]
        twice = sorted({folder for folder, _ in folders if folders.count((folder, _)) > 1})
        if twice:
            raise ValueError(f"sources reads the folder {twice[0]} twice")
        if self.optimisation.compile:
            raise ValueError("optimisation.compile is not there for this task")
        return self

    @property
    def is_flat(self) -> bool:
        """Whether the network sees single slices."""
        return self.window[0] == 1

    @property
    def size(self) -> tuple[int, ...]:
        """What of the window the network sees: (k, j, i), or (j, i) of slices."""
        return self.window[1:] if self.is_flat else self.window

    def empty_inputs(self) -> tuple[Tensor, ...]:
        """Return what the network takes in a step, zeros: an image and three prompts (B, 1, \\*size)."""
        import torch

        empty = torch.zeros(self.optimisation.batch_size, 1, *self.size)
        return (empty,) * 4

    def digest(self) -> str:
        """Return a hash of everything that makes two runs the same run; see :meth:`medseg.training.recipe.Recipe`."""
        content = self.model_dump(mode="json", exclude_defaults=True, exclude={"package", "evaluation"})
        for source in content["sources"]:
            source.pop("names", None)
        for name in ("workers", "compile"):
            content["optimisation"].pop(name, None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_correction_recipe(path: Path) -> CorrectionRecipe:
    """Read and check a recipe of the task correction.

    Raises
    ------
    RecipeError
        Naming every wrong key with its place, when the file is not such a recipe, or when the package that it leads to
        could not be written.
    """
    from medseg.training.correction.export import check_correction_package

    recipe = checked_recipe(CorrectionRecipe, path, read_yaml(path))
    check_correction_package(recipe, path)
    return recipe
