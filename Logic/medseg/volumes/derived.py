"""A volume that was computed, not measured, with what its reader should know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.volumes.volume import Volume


@dataclass
class DerivedVolume:
    """The result of a verb that gives a volume.

    Attributes
    ----------
    volume
        The voxels; ``volume.name`` says what they are.
    kind
        In one word what the voxels are, such as "attention".
    notices
        What the user should know, whole sentences; how the volume was made comes first.
    model
        ``name``, ``version`` and ``weights_sha256`` of the model package that made it, so that it can be traced.
    """

    volume: Volume
    kind: str
    notices: list[str] = field(default_factory=list)
    model: dict[str, str] = field(default_factory=dict)
