"""Whether the volumes are what a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import InputError, ModelError
from medseg.volumes import check_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.models.package import ModelPackage
    from medseg.progress import Progress
    from medseg.volumes import Volume


def check_inputs(volumes: Sequence[Volume], package: ModelPackage, *, progress: Progress) -> list[str]:
    """Return what the user should know about the volumes before they are segmented, whole sentences.

    Raises
    ------
    InputError
        When there are more or fewer volumes than the model takes, or one cannot be segmented.
    ModelError
        When the model is not there to segment.
    Cancelled
        When the user asked to stop, between two volumes.
    """
    if package.verb != "segment":
        raise ModelError(
            f"The model '{package.name}' is there to {package.verb} and cannot segment.", advice="Choose another model."
        )
    slots = package.inputs
    if len(volumes) != len(slots):
        names = ", ".join(f"{slot.name} ({slot.modality})" if slot.modality else slot.name for slot in slots)
        raise InputError(
            f"The model '{package.name}' takes {len(slots)} volume{'s' if len(slots) > 1 else ''}, and"
            f" {len(volumes)} {'was' if len(volumes) == 1 else 'were'} given.",
            advice=f"Give one for each of its inputs: {names}.",
        )
    notices: list[str] = []
    for volume, slot in zip(volumes, slots, strict=True):
        notices += check_image(volume, minimum_slices=slot.minimum_slices)
        notices += volume.notes
        if slot.modality and volume.modality and slot.modality.upper() != volume.modality.upper():
            notices.append(
                f"The model was made for {slot.modality} and the volume '{volume.name}' is {volume.modality};"
                " the result may be wrong."
            )
        progress.check()
    first = volumes[0]
    if first.geometry.is_sheared:
        notices.append(
            "The voxel grid is sheared (a tilted gantry, for example): the image was segmented on a grid with right"
            " angles and the result brought back."
        )
    for index, volume in enumerate(volumes[1:], start=1):
        if not volume.geometry.is_close(first.geometry):
            notices.append(
                f"The volume '{volume.name or slots[index].name}' lies on another grid and was resampled onto that"
                f" of '{first.name or slots[0].name}'."
            )
    return notices
