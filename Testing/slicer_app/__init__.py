"""A stand-in for the 3D Slicer application, for tests of scripted modules. See README.md.

``from slicer_app import SlicerApplication; app = SlicerApplication.instance()``
"""

from .application import SlicerApplication

__all__ = ["SlicerApplication"]
