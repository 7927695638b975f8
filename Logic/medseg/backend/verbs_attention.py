"""The verb that tells where a network looks from a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.backend.encoding import Parcel, encode_derived

if TYPE_CHECKING:
    from medseg.backend.verbs import Task


@dataclass(frozen=True)
class AttentionOptions:
    """The options of the verb: the point, (R, A, S) in mm, and where to compute."""

    point: tuple[float, float, float]
    device: str = "auto"


def attention_row_verb(task: Task) -> Parcel:
    """Look from a point with a model package (:func:`medseg.segmentation.attention_map.attention_row`)."""
    from medseg.backend.verbs import make_options
    from medseg.models import ModelLibrary
    from medseg.segmentation.attention_map import attention_row, shows_attention

    options = make_options(AttentionOptions, task.options)
    package = ModelLibrary().find(task.model)
    network = task.models.get(package) if shows_attention(package) else None
    return encode_derived(
        attention_row(
            task.volumes, package, options.point, device=str(options.device), network=network, progress=task.progress
        )
    )
