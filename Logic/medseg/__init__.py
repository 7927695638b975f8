"""MedSeg: segment, correct, register, enhance and analyse CT and MR volumes.

Importing this package costs next to nothing: nothing heavy (torch, monai, SimpleITK) is imported before a verb is used.
"""

from medseg.version import VERSION as __version__  # noqa: N811 - the name that tools look for

__all__ = ["__version__"]
