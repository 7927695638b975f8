"""The recipe of a registration network: ``task: registration`` in a YAML file, checked key by key."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from medseg.models import Preprocessing, registration_preprocessing
from medseg.training.registration.sources import AnySource  # noqa: TC001 - pydantic reads it
from medseg.training.section import Section
from medseg.training.sections import AboutSection, NetworkSection, ScheduleSection, as_packages_have_it
from medseg.training.synthesis import GridSection, PaintingSection, PairSection
from medseg.training.yaml_files import checked_recipe, read_yaml

if TYPE_CHECKING:
    from torch import Tensor

_Smoothness = Annotated[float, Field(ge=0, le=1)]
_DEFAULT_SMOOTHNESS = 0.4


class RegistrationLossSection(Section):
    """``(1 - smoothness) (similarity + dice_weight Dice) + smoothness regulariser_weight roughness``, and folds.

    After T. Mok et al. (MLMI 2023, Eq. 3), with the Dice of warped labels as J. Chen et al. (MLMI 2023) add it.

    ``similarity`` of the images: "lncc" with a ``window`` in voxels, "nmi", "mind" for pairs of any contrasts, or
    "none" for labels alone. Of the labels that both images have, ``labels_a_step`` are drawn for each pair. With a
    ``pyramid`` of n, both are also compared on n - 1 coarser grids.

    ``regulariser`` acts on the velocity where the network has one, else on the displacement, both in voxels; ``on``
    "displacement" takes that always. ``regulariser_weight`` is the sigma of the implicit kinds, ``gamma``, ``mu`` and
    ``lam`` are theirs alone. ``fold_weight`` weighs what folds (:func:`~medseg.losses.folding_energy` of the
    displacement), whatever the smoothness.

    ``smoothness`` is a number, or for a network that heeds it the two ends of a range from which each pair draws one.
    """

    similarity: Literal["lncc", "nmi", "mind", "none"] = "lncc"
    similarity_weight: Annotated[float, Field(ge=0)] = 1.0
    window: Annotated[int, Field(ge=3)] = 7
    pyramid: Annotated[int, Field(ge=1, le=4)] = 1
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    labels_a_step: Annotated[int, Field(ge=1)] = 8
    regulariser: Literal[
        "diffusion", "bending", "curvature", "implicit_diffusion", "implicit_curvature", "implicit_elastic"
    ] = "diffusion"
    regulariser_weight: Annotated[float, Field(ge=0)] = 1.0
    gamma: Annotated[float, Field(gt=0)] = 2.0
    mu: Annotated[float, Field(gt=0)] = 1.0
    lam: float = 0.0
    fold_weight: Annotated[float, Field(ge=0)] = 0.0
    on: Literal["auto", "displacement"] = "auto"
    smoothness: _Smoothness | tuple[_Smoothness, _Smoothness] = _DEFAULT_SMOOTHNESS

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("must be odd")
        return window

    @model_validator(mode="after")
    def _minimises_something(self) -> RegistrationLossSection:
        if not self.dice_weight and not self.compares_images:
            raise ValueError("neither images nor labels count: raise dice_weight or choose a similarity")
        if self.mu + self.lam < 0:
            raise ValueError("mu and lam must not add up to less than 0")
        low, high = self.range_of_smoothness
        if low > high:
            raise ValueError("smoothness must be the smallest and the largest value, in this order")
        return self

    @property
    def compares_images(self) -> bool:
        """Whether the images count, and not the labels alone."""
        return self.similarity != "none" and self.similarity_weight > 0

    @property
    def range_of_smoothness(self) -> tuple[float, float]:
        """The ends of the range; equal for a single number."""
        return self.smoothness if isinstance(self.smoothness, tuple) else (self.smoothness, self.smoothness)

    @property
    def usual_smoothness(self) -> float:
        """What the network is measured at, and used at when the user does not say: 0.4 where that is in the range."""
        low, high = self.range_of_smoothness
        return min(max(_DEFAULT_SMOOTHNESS, low), high)


class LevelsSection(Section):
    """Coarse levels first, for a network with levels (LapIRN).

    ``steps`` are changes of the weights that train only levels up to the first, up to the second, and so on; what is
    left of the run trains all. For ``frozen_steps`` after a level has been added, the ones before keep their weights.
    ``compare`` "level" looks at images and labels as coarsely as the level does, as the authors' code does, which sees
    farther and takes less time; "full" at full size, as Eq. 3 of T. Mok et al. (MLMI 2023) says.
    """

    steps: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    frozen_steps: Annotated[int, Field(ge=0)] = 0
    compare: Literal["level", "full"] = "level"


class RegistrationPackageSection(AboutSection):
    """What the exported package says about itself.

    ``domain`` names in a phrase which pairs it is for. ``modality`` is DICOM's name when it is for one only.
    """

    domain: Annotated[str, Field(min_length=1, max_length=300)]
    modality: Annotated[str, Field(max_length=16)] = ""


class MeasuringSection(Section):
    """How many pairs of each source are kept aside and measured; real pairs are measured all."""

    pairs: Annotated[int, Field(ge=1)] = 8


class RegistrationRecipe(Section):
    """A whole recipe; :func:`read_registration_recipe` makes it from a file.

    ``labels`` is a label table (relative to the recipe) that names the labels by which the network is measured.
    """

    task: Literal["registration"] = "registration"
    seed: int = 0
    labels: str | None = None
    start_from: str | None = None
    package: RegistrationPackageSection
    grid: GridSection
    sources: Annotated[tuple[AnySource, ...], Field(min_length=1)]
    pairs: PairSection = PairSection()
    painting: PaintingSection = PaintingSection()
    network: NetworkSection
    loss: RegistrationLossSection = RegistrationLossSection()
    levels: LevelsSection | None = None
    optimisation: ScheduleSection
    evaluation: MeasuringSection = MeasuringSection()

    @field_validator("grid")
    @classmethod
    def _as_packages_have_it(cls, grid: GridSection) -> GridSection:
        as_packages_have_it(lambda: Preprocessing(grid.orientation, (grid.spacing,) * 3))
        return grid

    @model_validator(mode="after")
    def _goes_together(self) -> RegistrationRecipe:
        kinds = [source.kind for source in self.sources]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"sources has more than one of the kind {twice[0]}")
        if self.levels is not None and sum(self.levels.steps) >= self.optimisation.moves:
            raise ValueError(
                f"levels.steps take {sum(self.levels.steps)} steps and the run has {self.optimisation.moves}: none is"
                " left for all levels together"
            )
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """What becomes of the volumes of a pair in use."""
        return registration_preprocessing(self.grid.orientation, (self.grid.spacing,) * 3)

    def source(self, kind: type[Any]) -> Any:
        """Return the source of a kind, ``None`` when there is none."""
        return next((source for source in self.sources if isinstance(source, kind)), None)

    def empty_inputs(self) -> tuple[Tensor, ...]:
        """Return what the network takes in a step, zeros: two images (B, 1, I, J, K)."""
        import torch

        # Every pair is used both ways.
        image = torch.zeros(2 * self.optimisation.batch_size, 1, *self.grid.size)
        return image, image

    def digest(self) -> str:
        """Return a hash of everything that makes two runs the same run; see :meth:`medseg.training.recipe.Recipe`."""
        content = self.model_dump(mode="json", exclude_defaults=True, exclude={"package", "evaluation", "labels"})
        for source in content["sources"]:
            for name in ("folder", "labels", "csv"):
                source.pop(name, None)
        for name in ("workers", "compile"):
            content["optimisation"].pop(name, None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_registration_recipe(path: str | Path) -> RegistrationRecipe:
    """Read and check a recipe of the task registration.

    Raises
    ------
    RecipeError
        Naming every wrong key with its place, when the file is not such a recipe, or when the package that it leads to
        could not be written.
    """
    from medseg.training.registration.export import check_registration_package

    recipe = checked_recipe(RegistrationRecipe, path, read_yaml(path))
    check_registration_package(recipe, Path(path))
    return recipe
