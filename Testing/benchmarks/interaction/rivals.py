"""The rivals: classical tools in the network's place, so that window, grid, clicks and use of the answers are the same.

Each is a "network" that is given to :class:`medseg.correction.engine.NetworkTool`. Its seeds are the balls of the
clicks that the network is shown, and the border of the window, which is background. Both are called with their
defaults, and the random walker also with the one setting that it has, chosen in its favour.

They know no segmentation that is to be repaired, so one is turned into seeds: all of it and of what is around it, but
for a band along its border and for the surroundings of clicks that say otherwise. That is ours; how wide both are was
chosen in their favour, on nine structures of this comparison.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

STRUCTURE, BACKGROUND = 1, 2
_BAND, _NARROWEST = 0.25, 1.0
"""Half the width of the band, of the greatest depth of a segmentation, and at least so many voxels."""
_ROOM, _LEAST_ROOM = 1.0, 4.0
"""How far from a click seeds of the other kind go, of the same, and at least so many voxels."""
_SURE = 8.0
"""The logit of a label."""


class Scene:
    """The image of a window, and what is kept from click to click.

    Attributes
    ----------
    image
        (\\*size) float32.
    start
        (\\*size) bool, a segmentation that is to be repaired; ``None`` for "nothing" or when nobody has asked yet.
    kept
        Whatever a rival keeps.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.start: np.ndarray | None = None
        self.kept: Any = None


class Rival(nn.Module):
    """Answers as a network of clicks answers (:class:`medseg.networks.PEMED`), for one image at a time.

    Parameters
    ----------
    solve
        Returns for a scene and seeds (\\*size), 1 structure, 2 background, 0 open, how probable the structure is,
        (\\*size), 0 to 1.
    """

    def __init__(self, solve: Callable[[Scene, np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self._solve = solve
        # Who asks for the device of a network looks at its parameters.
        self.nothing = nn.Parameter(torch.zeros(()), requires_grad=False)

    def image_features(self, image: Tensor) -> Scene:
        """Return the scene of an image (1, 1, \\*size)."""
        return Scene(image[0, 0].float().numpy())

    def refine(
        self, scene: Scene, positive: Tensor, negative: Tensor, previous: Tensor, last_logits: Tensor | None = None
    ) -> Tensor:
        """Return the logits (1, 1, \\*size) of maps (1, 1, \\*size): see :meth:`medseg.networks.PEMED.refine`."""
        if last_logits is None:
            start = previous[0, 0].numpy() > 0.5
            scene.start = start if start.any() else None
        seeds = seeds_of(positive[0, 0].numpy() > 0, negative[0, 0].numpy() > 0, scene.start)
        # Neither tool is made for one kind of seeds alone, or for none but seeds.
        is_open = (seeds == STRUCTURE).any() and (seeds == 0).any()
        shares = self._solve(scene, seeds) if is_open else seeds == STRUCTURE
        found = torch.from_numpy(np.asarray(shares, np.float32))
        return torch.logit(found, eps=1 / (1 + np.exp(_SURE)))[None, None]


def seeds_of(positive: np.ndarray, negative: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    """Return seeds (\\*size) int32, 1 structure, 2 background, 0 open, of clicks and a segmentation to be repaired."""
    seeds = np.full(positive.shape, BACKGROUND, np.int32)
    seeds[(slice(1, -1),) * seeds.ndim] = 0
    if start is not None:
        _add_start(seeds, positive, negative, start)
    seeds[negative] = BACKGROUND
    seeds[positive] = STRUCTURE
    return seeds


def _add_start(seeds: np.ndarray, positive: np.ndarray, negative: np.ndarray, start: np.ndarray) -> None:
    from scipy import ndimage

    inside, outside = ndimage.distance_transform_edt(start), ndimage.distance_transform_edt(~start)
    deepest = float(inside.max())
    band, room = max(_BAND * deepest, _NARROWEST), max(_ROOM * deepest, _LEAST_ROOM)
    sides = ((inside >= min(band, deepest), STRUCTURE, negative), (outside >= band, BACKGROUND, positive))
    for sure, value, other in sides:
        far = ndimage.distance_transform_edt(~other) > room if other.any() else True
        seeds[sure & far] = value


BETA, SHARP_BETA = 130.0, 5000.0
"""How much differences of intensity count for a random walker: scikit-image's default, and the best of 130, 1000, 5000
and 20000 on six of the structures of this comparison."""


def random_walker(beta: float = BETA) -> Rival:
    """Return scikit-image's random walker (Grady 2006), solved by conjugate gradients."""

    def solve(scene: Scene, seeds: np.ndarray) -> np.ndarray:
        from skimage import segmentation

        with warnings.catch_warnings():
            # That a probability is beyond 0 or 1 by the tolerance of the solver.
            warnings.simplefilter("ignore")
            shares = segmentation.random_walker(
                scene.image.astype(np.float64), seeds, beta=beta, mode="cg_j", return_full_prob=True
            )
        return np.clip(shares[0], 0, 1)

    return Rival(solve)


def grow_cut() -> Rival:
    """Return 3D Slicer's "Grow from seeds" (Zhu et al. 2014): its own filter, which goes on from its last answer."""

    def solve(scene: Scene, seeds: np.ndarray) -> np.ndarray:
        from vtkmodules.util.numpy_support import vtk_to_numpy

        # The filter passes over the outermost voxels, so that seeds there do nothing: one voxel more to each side.
        padded = np.pad(seeds, 1, constant_values=BACKGROUND).astype(np.uint8)
        # It can go on when there are more seeds; what grew from one that is gone would stay.
        if scene.kept is None or (scene.kept.seeds != padded)[scene.kept.seeds > 0].any():
            scene.kept = _Growing(_new_filter(scene.image), padded)
        scene.kept.seeds = padded
        growing = scene.kept.growing
        growing.SetSeedLabelVolume(_vtk_image(padded))
        growing.Update()
        labels = vtk_to_numpy(growing.GetOutput().GetPointData().GetScalars()).reshape(padded.shape)
        return labels[(slice(1, -1),) * labels.ndim] == STRUCTURE

    return Rival(solve)


@dataclass(eq=False)
class _Growing:
    """The filter, and its last seeds."""

    growing: Any
    seeds: np.ndarray


def _new_filter(image: np.ndarray) -> Any:
    import slicer

    growing = slicer.vtkImageGrowCutSegment()
    growing.SetIntensityVolume(_vtk_image(np.pad(image, 1, mode="edge")))
    return growing


def _vtk_image(array: np.ndarray) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData

    image = vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True))
    return image
