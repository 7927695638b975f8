"""The options that all commands of the registration share, and what they mean for a pair."""

import dataclasses
import functools
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn

    from medseg.registration import RegistrationOptions, SpatialTransform
    from medseg.registration.instance import Objective


class Method(str, Enum):
    """How to register."""

    RIGID = "rigid"
    AFFINE = "affine"
    LAPIRN = "lapirn"
    FIELD = "field"
    MODEL = "model"


class Effort(str, Enum):
    """How long a deformable method works on the pair."""

    NONE = "none"
    QUICK = "quick"
    FULL = "full"


class RefineBy(str, Enum):
    """What is refined of a trained model."""

    AUTO = "auto"
    WEIGHTS = "weights"
    FIELD = "field"


class Similarity(str, Enum):
    """What a deformable method compares."""

    AUTO = "auto"
    LNCC = "lncc"
    NMI = "nmi"
    MIND = "mind"


class Regulariser(str, Enum):
    """What keeps a deformation smooth."""

    DIFFUSION = "diffusion"
    BENDING = "bending"
    CURVATURE = "curvature"
    IMPLICIT_DIFFUSION = "implicit_diffusion"
    IMPLICIT_CURVATURE = "implicit_curvature"
    IMPLICIT_ELASTIC = "implicit_elastic"


class StartAt(str, Enum):
    """Where the alignment begins."""

    CENTRE = "centre"
    MOMENTS = "moments"


class Metric(str, Enum):
    """What the alignment compares."""

    MUTUAL_INFORMATION = "mutual_information"
    CORRELATION = "correlation"


MethodOption = Annotated[
    Method | None,
    typer.Option(
        help="rigid, affine, or deformable: model is a trained network, lapirn fits a network to this pair, field "
        "moves every voxel by itself.",
        show_default="affine, or model with --model",
    ),
]
RefineOption = Annotated[
    Effort, typer.Option(help="How long a deformable method works on the pair; none is for a trained model.")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Name or folder of a model that registers (see `medseg models`)."),
]
RefineByOption = Annotated[
    RefineBy, typer.Option(help="What is refined of a model: its weights, the field that it gave, or what suits it.")
]
SimilarityOption = Annotated[
    Similarity,
    typer.Option(
        help="What a deformable method compares. lncc is for one contrast, nmi and mind are for any two; auto takes "
        "lncc where both volumes show the same tissues bright, else nmi."
    ),
]
RegulariserOption = Annotated[
    Regulariser, typer.Option(help="What keeps the deformation smooth; implicit_... pull it to its smoothed self.")
]
SmoothnessOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Of a deformable method: 0 follows the images, 1 is stiff.",
        show_default="0.4, or the model's own",
    ),
]
GammaOption = Annotated[float, typer.Option(min=0.01, help="How strongly the implicit regularisers smooth.")]
SpacingOption = Annotated[
    float | None,
    typer.Option(
        help="Voxel size in mm that a deformable method works at.", show_default="the model's, or what is affordable"
    ),
]
StartOption = Annotated[
    StartAt, typer.Option(help="Begin with the middles or the centres of brightness on each other.")
]
MetricOption = Annotated[Metric, typer.Option(help="correlation is for two volumes of the same kind.")]
FixedMaskOption = Annotated[
    Path | None, typer.Option(help="Compare only where this label map is above 0.", show_default=False)
]
FixedLabelsOption = Annotated[
    Path | None, typer.Option(help="A segmentation of the fixed volume, for the figures.", show_default=False)
]
MeasureOnlyOption = Annotated[
    bool, typer.Option("--landmarks-measure-only", help="Keep landmarks for the figures; do not begin with them.")
]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same result.")]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked for, before the pair is known; ``None`` is what suits the method.

    Raises
    ------
    InputError
        When they do not fit each other.
    typer.BadParameter
        When the spacing is not a positive number.
    """

    method: Method | None
    model: str | None
    refine: Effort
    refine_by: RefineBy
    similarity: Similarity
    regulariser: Regulariser
    smoothness: float | None
    gamma: float
    spacing: float | None
    start: StartAt
    metric: Metric
    landmarks_measure_only: bool
    seed: int
    device: str
    initial: Path | None = None

    def __post_init__(self) -> None:
        if self.spacing is not None and not 0 < self.spacing < float("inf"):
            raise typer.BadParameter("It must be a positive number of mm.", param_hint="--spacing")
        if self.method is None:
            object.__setattr__(self, "method", Method.AFFINE if self.model is None else Method.MODEL)
        self._plain_options()  # says now what the first pair would say after minutes

    @property
    def is_linear(self) -> bool:
        """Whether the method turns, shifts and stretches only."""
        return self.method in (Method.RIGID, Method.AFFINE)

    def read_initial(self) -> "SpatialTransform | None":
        """Read the transform to begin with."""
        from medseg.registration import read_transform

        return None if self.initial is None else read_transform(self.initial)

    @functools.cached_property
    def network(self) -> "nn.Module | None":
        """The network of the model, loaded once for all pairs; ``None`` for a method without one."""
        if self.method is not Method.MODEL:
            return None
        from medseg.models import load_network
        from medseg.registration.models import registration_package

        return load_network(registration_package(self.model))

    def options(self, *, initial: "SpatialTransform | None" = None, inverse: bool = False) -> "RegistrationOptions":
        """Return what they mean for a pair."""
        return dataclasses.replace(self._plain_options(), objective=self._objective(), initial=initial, inverse=inverse)

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON takes them, for a report."""
        found = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            found[item.name] = (
                value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
            )
        return found

    def _plain_options(self) -> "RegistrationOptions":
        from medseg.registration import RegistrationOptions

        assert self.method is not None
        return RegistrationOptions(
            method=self.method.value,
            model=self.model,
            refine=self.refine.value,
            refine_by=self.refine_by.value,
            start=self.start.value,
            metric=self.metric.value,
            spacing_mm=self.spacing,
            device=self.device,
            seed=self.seed,
        )

    def _objective(self) -> "Objective | None":
        """Return what a deformable method minimises; ``None`` for a linear one."""
        if self.is_linear:
            return None
        from medseg.registration.instance import Objective
        from medseg.registration.models import registration_package

        changes: dict[str, Any] = {}
        if self.smoothness is not None:
            changes["smoothness"] = self.smoothness
        elif self.method is Method.MODEL and (section := registration_package(self.model).registration) is not None:
            changes["smoothness"] = section.smoothness
        return Objective(self.similarity.value, self.regulariser.value, gamma=self.gamma, **changes)
