"""Sections that recipes of every task have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from medseg.errors import InputError
from medseg.models.reading import NAME
from medseg.training.section import Section

if TYPE_CHECKING:
    from collections.abc import Callable


class NetworkSection(Section):
    """The network: a name from the allow-list and its arguments."""

    target: str
    arguments: dict[str, Any] = Field(default_factory=dict)


def as_packages_have_it(build: Callable[[], object]) -> None:
    """Let :mod:`medseg.models` judge by its own rules what a package will hold; pydantic adds the place."""
    try:
        build()
    except InputError as error:
        raise ValueError(str(error).removesuffix("Correct the model.").rstrip(". ")) from error


class ScheduleSection(Section):
    """Optimiser and length of the run (AdamW, linear warm-up, cosine decay to zero).

    A step of ``steps_per_epoch`` is one batch in each process; ``accumulate`` of them move the weights once, and
    ``warmup_steps`` counts these moves. ``compile`` lets PyTorch translate the network before the first step.
    """

    epochs: Annotated[int, Field(ge=1)]
    steps_per_epoch: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 1
    accumulate: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    gradient_clip: Annotated[float, Field(gt=0)] = 12.0
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    compile: bool = False
    validate_every: Annotated[int, Field(ge=1)] = 5
    workers: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _whole_moves(self) -> ScheduleSection:
        if self.steps_per_epoch % self.accumulate:
            raise ValueError(f"steps_per_epoch must be a multiple of accumulate ({self.accumulate})")
        return self

    @property
    def moves(self) -> int:
        """How often the weights are changed in the whole run."""
        return self.epochs * self.steps_per_epoch // self.accumulate


class AboutSection(Section):
    """What every exported package says about itself."""

    name: Annotated[str, Field(pattern=f"^({NAME.pattern})$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: str
    description: str
    anatomy: tuple[str, ...]
    authors: str
    copyright: str
    license: str
    citation: str = ""
    data_sources: str
    limits: str = ""
