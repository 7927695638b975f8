"""Thin slices learnt from labels on thick ones, for a folder of cases: the joint loss as a training objective.

Source: C. Gang, "A Novel Convolutional-Free Method for 3D Medical Imaging Segmentation" (arXiv 2502.05396); see
:mod:`medseg.losses.thin_thick`. The thick image is made from each patch of the thin one, after its augmentation, and
goes through the same network.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from medseg.errors import InputError
from medseg.losses.thin_thick import FeatureTap, SliceProjection, ThinThickLoss
from medseg.training.objectives.base import LossSection, Objective, centred
from medseg.training.thin_thick.thick import place_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from medseg.training.objectives.base import Batch
    from medseg.training.pairs import Split
    from medseg.training.recipe import Recipe
    from medseg.volumes import Volume

Weight = Annotated[float, Field(ge=0)]

_LEAST_PROBABILITY = 1e-6


class ThinThickSection(LossSection):
    """The joint loss. Label files lie on thick copies of their images (``medseg thick``), ``ratio`` slices each.

    Cases kept aside may have labels on the thin slices instead, which are then measured as they are; labels on thick
    slices are measured against what the result looks like on these. ``slice_axis`` is the axis of the network's grid
    (I, J, K) across the slices. ``features`` names the part of the network whose maps the third requirement compares;
    without it there is none. ``ramp_epochs`` is how long its weight rises. ``thickness`` (in thin slices) and
    ``profile`` are those of the thick slices that the network sees in training.
    """

    kind: Literal["thin_thick"]
    ratio: Annotated[int, Field(ge=2)]
    weights: tuple[Weight, Weight, Weight] = (1.0, 1.0, 0.1)
    ramp_epochs: Annotated[int, Field(ge=0)] = 10
    features: str | None = None
    slice_axis: Annotated[int, Field(ge=0, le=2)] = 2
    thickness: Annotated[float, Field(gt=0)] | None = None
    profile: Literal["box", "gaussian"] = "box"

    def build(self, _classes: int) -> Objective:
        """See :class:`LossSection`."""
        return ThinThick(self)

    @property
    def slice_groups(self) -> tuple[int, int]:
        """See :class:`LossSection`."""
        return self.slice_axis, self.ratio

    def objections(self, recipe: Recipe) -> list[str]:
        """See :class:`LossSection`: what would tear the groups of slices apart."""
        axis, name = self.slice_axis, "IJK"[self.slice_axis]
        augmentation, found = recipe.augmentation, []
        if not max(self.weights[:2]):
            found.append("loss.weights must have a first or a second one above 0")
        if recipe.window.size[axis] % self.ratio:
            found.append(f"window.size along {name} must be a multiple of loss.ratio ({self.ratio})")
        if recipe.preprocessing.spacing[axis] is not None:
            found.append(f"preprocessing.spacing along {name} must be null, so that slices stay what they are")
        turned = any(angle for index, angle in enumerate(augmentation.rotation_degrees) if index != axis)
        if augmentation.affine_probability and turned:
            found.append(f"augmentation.rotation_degrees may turn about {name} only")
        if augmentation.elastic_probability or augmentation.elastic_affine is not None:
            found.append("augmentation.elastic_probability must be 0 and elastic_affine left out")
        if recipe.data.annotated != "all" or recipe.data.instances:
            found.append("data.annotated and data.instances must be left out")
        return found

    def on_image_grid(self, label: Volume, image: Volume) -> Volume:
        """See :class:`LossSection`: a thick label is repeated on its thin slices; slices without a group get none."""
        if label.geometry.is_close(image.geometry):
            return label
        placed = place_labels(image.geometry, label)
        if placed.grouping.ratio != self.ratio:
            raise InputError(
                f"its thick slices are {placed.grouping.ratio} thin ones and loss.ratio is {self.ratio}",
                advice="Use labels that were drawn on copies of one thickness in slices.",
            )
        axis = placed.grouping.array_axis
        array = np.zeros(image.shape, label.array.dtype)
        inside = [slice(None)] * 3
        inside[axis] = slice(placed.grouping.first, placed.grouping.stop)
        array[tuple(inside)] = np.repeat(placed.array, self.ratio, axis=axis)
        return dataclasses.replace(label, array=array, geometry=image.geometry)

    def on_one_grid(
        self, images: tuple[Volume, ...], label: Volume, orientation: str, split: Split
    ) -> tuple[tuple[Volume, ...], Volume]:
        """See :class:`LossSection`: images and repeated labels, cropped to whole groups of slices."""
        repeated, thin = self.on_image_grid(label, images[0]), images[0].geometry
        axes, _ = thin.axis_changes(orientation)
        wanted = axes[self.slice_axis]
        if label.geometry.is_close(thin):
            if split == "training":
                raise InputError(
                    "its label lies on the thin slices, not on a thick copy",
                    advice="Train on labels of thin slices with another loss.",
                )
            first, count, axis = 0, thin.size[wanted] // self.ratio, wanted
        else:
            grouping = place_labels(thin, label).grouping
            first, count, axis = grouping.first, grouping.count, grouping.axis
        if axis != wanted:
            raise InputError(
                f"its slices are stacked along another axis than {'IJK'[self.slice_axis]} of the network's grid",
                advice="Change preprocessing.orientation or loss.slice_axis.",
            )
        start, stop = [0, 0, 0], list(thin.shape)
        start[2 - axis], stop[2 - axis] = first, first + count * self.ratio
        kept = [image.crop(start, stop) if image.geometry.is_close(thin) else image for image in images]
        return tuple(kept), repeated.crop(start, stop)

    def as_labelled(self, found: Volume, label: Volume) -> Volume:
        """See :class:`LossSection`: what more than half of the thin slices of each thick one show, on all of them."""
        if label.geometry.is_close(found.geometry):
            return found
        grouping = place_labels(found.geometry, label).grouping
        thin = np.moveaxis(found.array, grouping.array_axis, 0)
        array = np.zeros_like(found.array)
        shown = np.moveaxis(array, grouping.array_axis, 0)
        groups = thin[grouping.first : grouping.stop].reshape(grouping.count, grouping.ratio, *thin.shape[1:])
        for value in np.unique(groups).tolist():
            most = np.count_nonzero(groups == value, axis=1) * 2 > grouping.ratio
            shown[grouping.first : grouping.stop][np.repeat(most, grouping.ratio, axis=0)] = value
        return found.with_array(array)


class Passes(NamedTuple):
    """What the network gave on the thin and on the thick image of a batch."""

    thin: Tensor | None
    thick: Tensor
    thin_features: Tensor | None
    thick_features: Tensor | None


class ThinThick(Objective):
    """See :class:`ThinThickSection`; logits in, of deep supervision the finest.

    A network that gives the middle of its block in training is not given blocks of that size, thin or thick.
    """

    def __init__(self, section: ThinThickSection) -> None:
        super().__init__()
        self._section, self._axis = section, section.slice_axis - 3
        self._projection = SliceProjection(section.ratio, section.thickness, section.profile)
        self._loss = ThinThickLoss(self._projection, weights=section.weights, ramp=1.0, axis=self._axis)
        self._done = 1.0

    def start_epoch(self, epoch: int) -> None:
        """See :class:`Objective`."""
        self._done = min(epoch / self._section.ramp_epochs, 1.0) if self._section.ramp_epochs else 1.0

    def outputs(self, network: nn.Module, image: Tensor) -> Passes:
        """See :class:`Objective`: two passes, the second over the thick slices of the patch."""
        name = self._section.features if self._section.weights[2] else None
        with FeatureTap(network, name) if name else contextlib.nullcontext() as tap:
            looks_at_thin = bool(self._section.weights[1] or tap)
            thin = _finest(network, network(image)) if looks_at_thin else None
            thin_features = self._maps(tap, image)
            with _slices_further_apart(network, self._section.ratio):
                thick = _finest(network, network(self._projection(image, self._axis)))
            return Passes(thin, thick, thin_features, self._maps(tap, image))

    def _maps(self, tap: FeatureTap | None, image: Tensor) -> Tensor | None:
        if tap is None:
            return None
        maps = tap.take()
        # A network of 2D layers folds the slices into the batch: (B slices, F, rows, columns).
        return maps.unflatten(0, (len(image), -1)).movedim(1, self._axis) if maps.ndim == 4 else maps

    def forward(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """See :class:`Objective`; the parts are named "thick_loss", "thin_loss" and "feature_loss"."""
        ratio, passes = self._section.ratio, outputs
        # The middle slice of a group: any is as good where labels are repeated.
        classes = batch["classes"].unflatten(self._axis, (-1, ratio)).select(self._axis, ratio // 2)
        parts = self._loss(
            passes.thin,
            passes.thick,
            centred(classes, passes.thick.shape[-3:]),
            thin_features=passes.thin_features,
            thick_features=passes.thick_features,
            done=self._done,
        )
        names = {"loss": "loss", "thick": "thick_loss", "thin": "thin_loss", "features": "feature_loss"}
        return {names[name]: value for name, value in parts.items()}


def _finest(network: nn.Module, outputs: Any) -> Tensor:
    """Return the scores of the network's own output: the first of (scores, embeddings), of MPU-Net's maps the last."""
    if getattr(network, "gives_probabilities", False):
        output = outputs[-1] if isinstance(outputs, (tuple, list)) else outputs
        return output.clamp(min=_LEAST_PROBABILITY).log()  # scores whose softmax are the probabilities
    scores = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    return scores[:, 0] if scores.ndim == 6 else scores


@contextlib.contextmanager
def _slices_further_apart(network: nn.Module, ratio: int) -> Iterator[None]:
    """Tell a network that asks for it the distance of the thick slices while the block runs."""
    before = getattr(network, "slice_spacing", None)
    if before is None:
        yield
        return
    network.slice_spacing = before * ratio
    try:
        yield
    finally:
        network.slice_spacing = before
