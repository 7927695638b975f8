"""Pairs of images for registration that were never scanned: label maps, warped twice and painted.

The ideas are those of M. Hoffmann et al., "SynthMorph: learning contrast-invariant registration without acquired
images" (IEEE TMI 2022), and B. Billot et al., "SynthSeg: segmentation of brain MRI scans of any contrast and resolution
without retraining" (Medical Image Analysis 2023): a network that has seen every contrast needs to know none. All ranges
are our choice.
"""

from medseg.training.synthesis.anatomy import Anatomy, read_anatomies
from medseg.training.synthesis.draws import Draws
from medseg.training.synthesis.painting import PaintingSection
from medseg.training.synthesis.pairs import GridSection, PairSection, SyntheticPair, pair_of_anatomies, pair_of_shapes
from medseg.training.synthesis.shapes import ShapeSection
from medseg.training.synthesis.warps import PoseSection, WarpSection

__all__ = [
    "Anatomy",
    "Draws",
    "GridSection",
    "PaintingSection",
    "PairSection",
    "PoseSection",
    "ShapeSection",
    "SyntheticPair",
    "WarpSection",
    "pair_of_anatomies",
    "pair_of_shapes",
    "read_anatomies",
]
