"""Learning to segment thin slices from labels that were drawn on thick ones.

Source: C. Gang, "A Novel Convolutional-Free Method for 3D Medical Imaging Segmentation" (arXiv 2502.05396), the part on
thin-thick adaptation. Given there, in words: thick slices are averages of thin ones (average intensity projection),
and a weighted sum of three requirements: (1) the prediction on the thick image matches the thick labels, (2) the mean
of the predictions on the thin slices of a thick slice matches its label, (3) the mean of the features of these thin
slices is the features of the thick slice. Not given in the paper, our choice: disjoint groups as the default profile,
soft Dice + cross-entropy for (1) and (2), the mean squared difference over positions and channels for (3), the weights
1, 1, 0.1 and the ramp of the third.

What requirement 2 cannot tell: a prediction that repeats the thick label on each of its thin slices satisfies it
exactly, and where a surface crosses a thick slice obliquely the right thin masks do not (their mean is a fraction, the
label is not). Only the image, through the network, speaks against such steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from types import TracebackType

_SMOOTH = 1e-5
_LEAST = 1e-7  # a probability below this counts as this in a logarithm
_FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class SliceProjection:
    """How thick slices come from thin ones: each is a weighted mean around the middle of its group.

    Parameters
    ----------
    ratio
        Thin slices a thick slice (r): the distance of thick slices, in thin slices.
    thickness
        Width of the profile in thin slices; ``None`` is ``ratio``. Larger: thick slices overlap; smaller: there are
        gaps between them.
    profile
        "box" weighs every slice by its share of the width: with ``thickness`` equal to ``ratio`` this is the average
        over disjoint groups, ``x_t = (1/r) sum_{s in S_t} x_s`` with ``S_t = {t r, ..., t r + r - 1}`` counted from 0.
        "gaussian" has ``thickness`` as its full width at half maximum.

    Raises
    ------
    ValueError
        When the ratio is below 1 or the thickness not positive.
    """

    ratio: int
    thickness: float | None = None
    profile: Literal["box", "gaussian"] = "box"

    def __post_init__(self) -> None:
        if self.ratio < 1 or (self.thickness is not None and not self.thickness > 0):
            raise ValueError("the ratio must be at least 1 and the thickness positive")
        if self.profile not in ("box", "gaussian"):
            raise ValueError(f"the profile must be 'box' or 'gaussian', not '{self.profile}'")

    @property
    def is_disjoint(self) -> bool:
        """True when each thin slice belongs to one thick slice and weighs as much as its neighbours in it."""
        return self.profile == "box" and self.thickness in (None, float(self.ratio))

    def weights(self, slices: int) -> Tensor:
        """Return the weight of each of ``slices`` thin slices in each thick slice: (slices // ratio, slices), float32.

        Rows sum to 1, also at the ends of the stack, where a profile may reach beyond it. What is left when ``ratio``
        does not divide ``slices`` belongs to no group.
        """
        width = float(self.thickness or self.ratio)
        groups = slices // self.ratio
        middle = torch.arange(groups, dtype=torch.float64) * self.ratio + (self.ratio - 1) / 2
        offset = torch.arange(slices, dtype=torch.float64) - middle[:, None]
        if self.profile == "box":
            share = torch.minimum(offset + 0.5, torch.tensor(width / 2)) - torch.maximum(
                offset - 0.5, torch.tensor(-width / 2)
            )
            share = share.clamp(min=0)
        else:
            share = torch.exp(-0.5 * (offset * _FWHM_OF_SIGMA / width) ** 2)
        return (share / share.sum(1, keepdim=True)).float()

    def __call__(self, thin: Tensor, axis: int = -1) -> Tensor:
        """Return the thick slices of ``thin``: its size along ``axis``, divided by the ratio and rounded down.

        Raises
        ------
        ValueError
            When there are fewer thin slices than one group needs.
        """
        slices = thin.shape[axis]
        if slices < self.ratio:
            raise ValueError(f"{slices} thin slices do not make a thick one of {self.ratio}")
        if self.is_disjoint:
            whole = thin.narrow(axis, 0, slices - slices % self.ratio)
            return whole.unflatten(axis, (-1, self.ratio)).mean(axis if axis < 0 else axis + 1)
        return (thin.movedim(axis, -1) @ self.weights(slices).to(thin).T).movedim(-1, axis)


class ThinThickLoss(nn.Module):
    """The weighted sum of the three requirements, for any network that gives a score for every class and voxel.

    ``L = l1 Lseg(p_thick, y) + l2 Lseg(mean over S_t of p_thin, y) + l3 mean (mean over S_t of F_thin - F_thick)^2``
    with ``Lseg`` = soft Dice (mean over the foreground classes, over the whole batch) + cross-entropy.

    Parameters
    ----------
    projection
        How thick slices come from thin ones; a number is the ratio of disjoint groups.
    weights
        l1, l2, l3; 0 leaves a requirement out.
    ramp
        Share of the training over which l3 rises from 0.
    axis
        The axis of (B, n_classes, I, J, K) that the slices are stacked along.
    """

    def __init__(
        self,
        projection: SliceProjection | int,
        *,
        weights: tuple[float, float, float] = (1.0, 1.0, 0.1),
        ramp: float = 0.2,
        axis: int = -1,
    ) -> None:
        super().__init__()
        if min(weights) < 0 or not 0 <= ramp <= 1:
            raise ValueError("weights must not be negative, and the ramp must be a share from 0 to 1")
        self.projection = SliceProjection(projection) if isinstance(projection, int) else projection
        self.weights, self.ramp, self.axis = weights, ramp, axis

    def forward(
        self,
        thin_scores: Tensor | None,
        thick_scores: Tensor | None,
        thick_classes: Tensor,
        *,
        thin_features: Tensor | None = None,
        thick_features: Tensor | None = None,
        done: float = 1.0,
    ) -> dict[str, Tensor]:
        """Return "loss" and its unweighted parts "thick", "thin" and "features" (those that were asked for).

        Parameters
        ----------
        thin_scores, thick_scores
            (B, n_classes, I, J, K) logits on the thin and on the thick image; thin slices that fill no group are left
            out. May be ``None`` where the weight is 0.
        thick_classes
            (B, I, J, K) label values on the thick grid.
        thin_features, thick_features
            Maps (B, F, ...) of the same layer; without both there is no third requirement. Their numbers of slices must
            be in the ratio of the groups, whatever the layer's own stride: a rest is left out.
        done
            How much of the training is over, 0 to 1, for the ramp.
        """
        first, second, third = self.weights
        parts: dict[str, Tensor] = {}
        total = torch.zeros((), device=thick_classes.device)
        if first and thick_scores is not None:
            parts["thick"] = dice_and_entropy(thick_scores.float().softmax(1), thick_classes)
            total = total + first * parts["thick"]
        if second and thin_scores is not None:
            mean = self.projection(thin_scores.float().softmax(1), self.axis)
            parts["thin"] = dice_and_entropy(mean, thick_classes)
            total = total + second * parts["thin"]
        if third and thin_features is not None and thick_features is not None:
            parts["features"] = feature_difference(thin_features, thick_features, self.projection.ratio, self.axis)
            total = total + third * self.rise(done) * parts["features"]
        return {"loss": total, **parts}

    def rise(self, done: float) -> float:
        """Return the factor of the third weight when a share ``done`` of the training is over."""
        return 1.0 if self.ramp == 0 else min(max(done, 0.0) / self.ramp, 1.0)


def dice_and_entropy(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Return soft Dice loss (mean over the foreground classes, over the whole batch) + cross-entropy (mean of voxels).

    Parameters
    ----------
    probabilities
        (B, n_classes, I, J, K), summing to 1 over the classes: they may be means of probabilities.
    classes
        (B, I, J, K) label values.
    """
    index = classes.long()[:, None]
    entropy = -probabilities.gather(1, index).clamp_min(_LEAST).log().mean()
    truth = F.one_hot(index[:, 0], probabilities.shape[1]).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    found = probabilities[:, 1:]
    over = (0, *range(2, probabilities.ndim))
    dice = (2 * (found * truth).sum(over) + _SMOOTH) / (found.sum(over) + truth.sum(over) + _SMOOTH)
    return 1 - dice.mean() + entropy


def feature_difference(thin: Tensor, thick: Tensor, ratio: int, axis: int = -1) -> Tensor:
    """Return the mean squared difference between the thin features' means over groups and the thick features.

    Parameters
    ----------
    thin, thick
        (B, F, ...), equal but along ``axis``, where ``thin`` has ``ratio`` times as many slices and may have a rest.

    Raises
    ------
    ValueError
        When the numbers of slices are not in this ratio.
    """
    slices = thick.shape[axis]
    if thin.shape[axis] // ratio != slices:
        raise ValueError(
            f"{thin.shape[axis]} thin and {slices} thick feature slices are not in the ratio {ratio}: give the network"
            " numbers of slices that its strides divide"
        )
    return (SliceProjection(ratio)(thin.float(), axis) - thick.float()).square().mean()


class FeatureTap:
    """Catches what a module inside a network puts out, so that any network can take part in the third requirement.

    >>> network = nn.Sequential(nn.Conv3d(1, 4, 1), nn.Conv3d(4, 2, 1))
    >>> with FeatureTap(network, "0") as tap:
    ...     scores = network(torch.zeros(1, 1, 2, 2, 2))
    ...     tap.take().shape
    torch.Size([1, 4, 2, 2, 2])

    Parameters
    ----------
    network
        Any module.
    name
        The name of the module inside, as ``network.named_modules()`` has it.

    Raises
    ------
    ValueError
        When there is no module of that name.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        modules = dict(network.named_modules())
        if name not in modules or not name:
            known = ", ".join(sorted(known for known in modules if known)[:20])
            raise ValueError(f"the network has no part '{name}'; it has {known}")
        self._caught: Tensor | None = None
        self._handle = modules[name].register_forward_hook(self._catch)

    def _catch(self, _module: nn.Module, _inputs: object, output: object) -> None:
        first = output[0] if isinstance(output, (tuple, list)) else output
        if not isinstance(first, Tensor):
            raise TypeError(f"this part of the network gives {type(first).__name__}, not features")
        self._caught = first

    def take(self) -> Tensor:
        """Return the output of the last pass, with its graph, and let go of it.

        Raises
        ------
        RuntimeError
            When the network has not been run since the last call.
        """
        caught, self._caught = self._caught, None
        if caught is None:
            raise RuntimeError("the network has not been run since the features were last taken")
        return caught

    def close(self) -> None:
        """Take the hook away from the network."""
        self._handle.remove()
        self._caught = None

    def __enter__(self) -> FeatureTap:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()
