"""The recipe of a training run: a YAML file, checked key by key before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable  # noqa: TC003 - pydantic reads it
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from medseg.models import FitInPlane, IntensityStep, Normalize, Preprocessing, ScalePercentiles, ScaleRange, Window
from medseg.training.elastic_affine import ElasticAffineSection  # noqa: TC001 - pydantic reads it
from medseg.training.export import check_package
from medseg.training.instances import InstancesSection, check_instance_labels
from medseg.training.objectives import AnyLoss, DiceCESection
from medseg.training.section import Section
from medseg.training.sections import AboutSection, NetworkSection, ScheduleSection, as_packages_have_it
from medseg.training.yaml_files import checked_recipe, read_yaml

if TYPE_CHECKING:
    from torch import Tensor

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AnnotationTable(Section):
    """A table (CSV) that says which labels are annotated in which case: one line a case, a column ``case``, and one
    column a label with 0, "no" or nothing where it is not annotated.

    ``table`` is looked for beside the data and then beside the recipe; without it the columns are those of the CSV of
    pairs. ``columns`` names the column of each label; without it a column is found by the label's name or value,
    also after the words "voxels of" or "annotated".
    """

    table: str | None = None
    columns: dict[Annotated[int, Field(ge=1)], str] | None = None


class DataSection(Section):
    """Which files are pairs and which of them are kept for validation.

    ``image`` and ``label`` are file names in the data folder with ``{case}`` in place of the name of the case; several
    images of a case are a list of names, one for each input of the package. ``csv`` is a table of pairs instead
    (relative to the recipe); ``--data`` may name another folder or table.

    The cases, in order of their names and shuffled with the recipe's seed, are dealt into ``folds`` parts; part
    ``fold`` is never trained on. ``folds: 1`` trains on everything and measures nothing on unseen cases.
    ``validation`` lists the cases to keep aside by name instead, and so does a column ``split`` of the CSV.

    ``values`` translates the values of the label files into those of the label table; what it does not list becomes
    background. ``annotated`` "present" says that a label without a voxel in a case is not annotated there (and not
    absent), so that it is neither trained nor measured; a table says it case by case. ``allow_empty`` lets cases in
    that hold none of the labels. ``instances`` names labels of the table whose values in the files number their
    instances (vertebrae, ribs).

    ``cache_gb`` is the memory that prepared cases may take; the others wait on the disk. Without it, half of what is
    free when the run starts.
    """

    image: str | tuple[str, ...] | None = None
    label: str | None = None
    csv: str | None = None
    folds: Annotated[int, Field(ge=1)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    validation: tuple[str, ...] | None = None
    values: dict[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    annotated: Literal["all", "present"] | AnnotationTable = "all"
    allow_empty: bool = False
    instances: tuple[Annotated[int, Field(ge=1)], ...] = ()
    cache_gb: Annotated[float, Field(ge=0)] | None = None

    @property
    def images(self) -> tuple[str, ...]:
        """The patterns of the images, one for each input."""
        return (self.image,) if isinstance(self.image, str) else self.image or ()

    @field_validator("image", "label")
    @classmethod
    def _has_case(cls, pattern: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for one in (pattern,) if isinstance(pattern, str) else pattern or ():
            if one.count("{case}") != 1:
                raise ValueError("must hold {case} exactly once, for example '{case}.nii.gz'")
        return pattern

    @model_validator(mode="after")
    def _fold_exists(self) -> DataSection:
        if self.fold >= self.folds:
            raise ValueError(f"fold must be below folds ({self.folds}); the first fold is 0")
        return self


class IntensitySection(Section):
    """One step of intensity preprocessing: :attr:`step`, with its keys."""

    step: ClassVar[Callable[..., IntensityStep]]

    @model_validator(mode="after")
    def _makes_sense(self) -> IntensitySection:
        as_packages_have_it(self.build)
        return self

    def build(self) -> IntensityStep:
        """Return the step as the model package takes it."""
        return type(self).step(**self.model_dump(exclude={"kind"}))


class ScaleRangeSection(IntensitySection):
    """``scale_range``: see :class:`medseg.models.ScaleRange`."""

    step = ScaleRange
    kind: Literal["scale_range"]
    a_min: float
    a_max: float
    b_min: float
    b_max: float
    clip: bool = False


class ScalePercentilesSection(IntensitySection):
    """``scale_percentiles``: see :class:`medseg.models.ScalePercentiles`."""

    step = ScalePercentiles
    kind: Literal["scale_percentiles"]
    lower: float
    upper: float
    b_min: float
    b_max: float
    clip: bool = False


class NormalizeSection(IntensitySection):
    """``normalize``: see :class:`medseg.models.Normalize`."""

    step = Normalize
    kind: Literal["normalize"]
    mean: float | None = None
    std: float | None = None
    nonzero: bool = False


AnyIntensity = Annotated[ScaleRangeSection | ScalePercentilesSection | NormalizeSection, Field(discriminator="kind")]


class FitInPlaneSection(Section):
    """The box of the body in the plane of I and J (all voxels above ``threshold``), stretched to ``size`` voxels."""

    size: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]]
    threshold: Annotated[float, Field(allow_inf_nan=False)] = -200.0
    largest_component: bool = False


class PreprocessingSection(Section):
    """Orientation, voxel size (mm along I, J, K; null keeps the scan's own) and intensities.

    With ``fit_in_plane`` the body decides the voxel size along I and J, whose spacing is null then.
    """

    orientation: str = "RAS"
    spacing: tuple[float | None, float | None, float | None]
    intensity: tuple[AnyIntensity, ...]
    fit_in_plane: FitInPlaneSection | None = None

    @field_validator("orientation", "spacing")
    @classmethod
    def _makes_sense(cls, value: Any, info: ValidationInfo) -> Any:
        as_packages_have_it(lambda: Preprocessing(**{str(info.field_name): value}))
        return value

    @model_validator(mode="after")
    def _one_size_in_the_plane(self) -> PreprocessingSection:
        if self.fit_in_plane is not None and self.spacing[:2] != (None, None):
            raise ValueError("with fit_in_plane the first two spacings must be null")
        return self

    def build(self) -> Preprocessing:
        """Return the section as the model package takes it."""
        fit = self.fit_in_plane
        return Preprocessing(
            self.orientation,
            self.spacing,
            tuple(step.build() for step in self.intensity),
            None if fit is None else FitInPlane(fit.size, fit.threshold, fit.largest_component),
        )


class WindowSection(Section):
    """The window that the network sees, in voxels along I, J, K, in training and in use."""

    size: tuple[int, int, int]
    overlap: float = 0.5

    @field_validator("size")
    @classmethod
    def _has_a_size(cls, size: tuple[int, int, int]) -> tuple[int, int, int]:
        as_packages_have_it(lambda: Window(size))
        return size

    @field_validator("overlap")
    @classmethod
    def _can_be_blended(cls, overlap: float) -> float:
        as_packages_have_it(lambda: Window((1, 1, 1), overlap))
        return overlap

    def build(self) -> Window:
        """Return the section as the model package takes it."""
        return Window(self.size, self.overlap)


class AugmentationSection(Section):
    """Random changes of the training images; every probability is per case and step. 0 switches a change off.

    ``flip_axes`` are of I, J, K; ``swap_on_flip`` lists pairs of label values that change places with each flip, such
    as the left and the right of an organ when the axis from left to right is flipped.

    ``elastic_affine`` takes the place of ``affine_probability``, ``elastic_probability`` and what belongs to them.
    ``outside`` is what lies beyond the scan: zeros, its border going on, or its mirror image. ``noise_random_std``
    draws the standard deviation from 0 to ``noise_std``; ``gamma_keeps_moments`` keeps mean and standard deviation.
    """

    affine_probability: Annotated[float, Field(ge=0, le=1)] = 0.8
    rotation_degrees: tuple[float, float, float] = (10.0, 10.0, 15.0)
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.15
    anisotropic_scale: bool = True
    translation_mm: Annotated[float, Field(ge=0)] = 5.0
    elastic_probability: Annotated[float, Field(ge=0, le=1)] = 0.3
    elastic_mm: Annotated[float, Field(ge=0)] = 4.0
    elastic_affine: ElasticAffineSection | None = None
    outside: Literal["zeros", "border", "reflection"] = "zeros"
    flip_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    swap_on_flip: tuple[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], ...] = ()
    noise_probability: Annotated[float, Field(ge=0, le=1)] = 0.3
    noise_std: Annotated[float, Field(ge=0)] = 0.15
    noise_random_std: bool = True
    smooth_probability: Annotated[float, Field(ge=0, le=1)] = 0.2
    gamma_probability: Annotated[float, Field(ge=0, le=1)] = 0.4
    gamma: tuple[_Positive, _Positive] = (0.7, 1.5)
    gamma_keeps_moments: bool = True
    histogram_shift_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    histogram_control_points: Annotated[int, Field(ge=3)] = 10
    bias_probability: Annotated[float, Field(ge=0, le=1)] = 0.3
    low_resolution_probability: Annotated[float, Field(ge=0, le=1)] = 0.15
    intensity_shift: Annotated[float, Field(ge=0)] = 0.15
    intensity_scale: Annotated[float, Field(ge=0, lt=1)] = 0.15

    @field_validator("gamma")
    @classmethod
    def _rising(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError("must be the smallest and the largest value, in this order")
        return limits


class OptimisationSection(ScheduleSection):
    """The schedule, and the share of patches that are centred on a labelled voxel."""

    foreground_patches: Annotated[float, Field(ge=0, le=1)] = 0.5


class EvaluationSection(Section):
    """How the cases kept aside are measured: the tolerance of the surface Dice, in mm."""

    tolerance_mm: Annotated[float, Field(gt=0)] = 2.0


class InputSection(Section):
    """One of several images that the model takes, in the order of ``data.image``."""

    name: str
    modality: str = ""
    description: str = ""


class PackageSection(AboutSection):
    """What the exported package says about itself.

    A model of one image is described by ``modality``, ``input_name`` and ``input_description``, one of several by
    ``inputs``. ``picture`` puts a picture of a case kept aside into the package (the licence of the data must allow
    it); ``case_names`` lets the card name the cases, which may be the names of patients.
    """

    modality: str
    input_name: str = "Volume"
    input_description: str = ""
    inputs: tuple[InputSection, ...] = ()
    minimum_slices: Annotated[int, Field(ge=1)] = 8
    picture: bool = False
    case_names: bool = False
    largest_component: bool = False
    fill_holes: bool = False
    instances: InstancesSection | None = None

    @property
    def slots(self) -> tuple[InputSection, ...]:
        """The images that the model takes."""
        only = InputSection(name=self.input_name, modality=self.modality, description=self.input_description)
        return self.inputs or (only,)


class Recipe(Section):
    """A whole recipe; :func:`read_recipe` makes it from a file."""

    task: Literal["segmentation"] = "segmentation"
    seed: int = 0
    labels: str
    start_from: str | None = None
    package: PackageSection
    data: DataSection
    network: NetworkSection
    preprocessing: PreprocessingSection
    window: WindowSection
    augmentation: AugmentationSection = AugmentationSection()
    loss: AnyLoss = DiceCESection()
    optimisation: OptimisationSection
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _an_image_for_each_input(self) -> Recipe:
        images, slots = self.data.images, self.package.slots
        if images and len(images) != len(slots):
            raise ValueError(f"data.image names {len(images)} images and the package has {len(slots)} inputs")
        return self

    @model_validator(mode="after")
    def _goes_with_its_loss(self) -> Recipe:
        objections = self.loss.objections(self)
        if objections:
            raise ValueError(f"with the loss {self.loss.kind} " + ", and ".join(objections))
        return self

    def empty_inputs(self) -> tuple[Tensor, ...]:
        """Return what the network takes in a step, zeros: images (B, C, I, J, K)."""
        import torch

        return (torch.zeros(self.optimisation.batch_size, len(self.package.slots), *self.window.size),)

    def digest(self) -> str:
        """Return a hash of everything that makes two runs the same run; a checkpoint goes on only with its own.

        What the package says about itself, how it is measured, where the files lie, how many are kept in memory and
        whether the network is compiled change no weight. Keys at their default are left out, so that a new key does
        not end an old run.
        """
        content = self.model_dump(mode="json", exclude_defaults=True, exclude={"package", "evaluation"})
        for name in ("image", "label", "csv", "cache_gb"):
            content["data"].pop(name, None)
        for name in ("workers", "compile"):
            content["optimisation"].pop(name, None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe of the task segmentation.

    Raises
    ------
    RecipeError
        Naming every wrong key with its place, when the file is not such a recipe.
    """
    recipe = checked_recipe(Recipe, path, read_yaml(path))
    check_instance_labels(recipe)
    check_package(recipe, Path(path))
    return recipe
