"""What an objective gets and gives: the outputs of a network and a batch in, named losses out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from torch import Tensor, nn

from medseg.training.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.pairs import Split
    from medseg.training.recipe import Recipe
    from medseg.volumes import Volume


class Batch(TypedDict):
    """Patches of a training step.

    Attributes
    ----------
    image
        (B, C, I, J, K) float32, intensities preprocessed and augmented.
    classes
        (B, I, J, K) uint8 label values; 0 is the background.
    annotated
        (B, n_classes) bool: which classes are annotated in the case that the patch is from; the background always is.
    instances
        (B, I, J, K) int16: 0, or a number that is unique to the instance within its case.
    spacing
        (B, 3) voxel size in mm along I, J, K.
    """

    image: Tensor
    classes: Tensor
    annotated: Tensor
    instances: Tensor
    spacing: Tensor


class Objective(nn.Module):
    """What a run minimises.

    ``compiles`` says that :meth:`forward` computes the same whatever the batch holds, so that compiling it pays.
    """

    compiles = False

    def forward(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of what the network gave in training mode.

        Returns
        -------
        dict[str, Tensor]
            Scalars; "loss" is what is minimised, the others are logged beside it.
        """
        raise NotImplementedError

    def outputs(self, network: nn.Module, image: Tensor) -> Any:
        """Return what :meth:`forward` judges: one pass of the network over the batch's image."""
        return network(image)

    def start_epoch(self, epoch: int) -> None:
        """Adapt to the epoch (counted from 0); called before its first step, also when a run goes on."""


class LossSection(Section):
    """The part of a recipe that chooses an objective; each kind adds ``kind: Literal[...]`` and its options."""

    def build(self, classes: int) -> Objective:
        """Return the objective for a network with ``classes`` output channels, background included."""
        raise NotImplementedError

    @property
    def instance_labels(self) -> tuple[int, ...]:
        """Values of the labels whose instances the loss separates by embeddings."""
        return ()

    @property
    def slice_groups(self) -> tuple[int, int] | None:
        """The axis (0, 1, 2 for I, J, K) and size of groups of slices that a patch must not tear apart."""
        return None

    def objections(self, recipe: Recipe) -> list[str]:  # noqa: ARG002 - for kinds that look at the rest
        """Return what in the rest of the recipe does not go with this loss, a part of a sentence each."""
        return []

    def on_image_grid(self, label: Volume, image: Volume) -> Volume:  # noqa: ARG002
        """Return a label file's labels on the grid of its image, where the loss takes labels of another grid.

        Raises
        ------
        InputError
            When they do not belong to this image.
        """
        return label

    def on_one_grid(
        self,
        images: tuple[Volume, ...],
        label: Volume,
        orientation: str,  # noqa: ARG002
        split: Split,  # noqa: ARG002
    ) -> tuple[tuple[Volume, ...], Volume]:
        """Return images and label as they are prepared for training; ``orientation`` is that of the network's grid.

        Raises
        ------
        InputError
            When this loss cannot take them; the message is a part of a sentence.
        """
        return images, label

    def as_labelled(self, found: Volume, label: Volume) -> Volume:  # noqa: ARG002
        """Return a result as it is to be compared with :meth:`on_image_grid` of a label file's ``label``."""
        return found


def class_scores(outputs: Any) -> Tensor:
    """Return the outputs of a network that gives one tensor of class scores in training.

    Raises
    ------
    ValueError
        When it gives several outputs, whose meaning the loss does not know.
    """
    if isinstance(outputs, Tensor):
        return outputs
    raise ValueError("the loss takes class scores alone, and the network gives several outputs in training")


def centred(target: Tensor, spatial: Sequence[int]) -> Tensor:
    """Return the central part of ``target`` (..., I, J, K) that has the ``spatial`` size of a network's output.

    Networks that predict the middle of their block give less than they see. The rest must be even on every axis.
    """
    rests = [have - want for have, want in zip(target.shape[-3:], spatial, strict=True)]
    if any(rest < 0 or rest % 2 for rest in rests):
        whole = tuple(target.shape[-3:])
        raise ValueError(f"an output of {tuple(spatial)} voxels does not lie in the middle of {whole}")
    cut = [slice(rest // 2, have - rest // 2) for rest, have in zip(rests, target.shape[-3:], strict=True)]
    return target[..., cut[0], cut[1], cut[2]]
