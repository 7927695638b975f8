"""PythonQt's manners over PySide6: the modules ``qt`` and ``ctk`` as a scripted module of 3D Slicer sees them.

A stand-in: real Qt 6 widgets do the work, and the names that each class may offer come from ``api_table.json``, which
was derived from what the real application (Qt 5, PythonQt) wrote about itself.
"""

from . import qobject

__all__ = ["qobject"]
