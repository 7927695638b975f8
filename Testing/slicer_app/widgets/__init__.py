"""The widgets that only 3D Slicer and the Common Toolkit have, rebuilt on Qt 6 as far as a module panel uses them.

Each is a stand-in: it follows the properties, signals and behaviour of the real widget, not its drawing.
"""

from ..pythonqt.backings import register_backing
from . import ctk, ctk_numbers, mrml, node_combo_box, segments

register_backing(*ctk.WIDGETS, *ctk_numbers.WIDGETS, *mrml.WIDGETS, *node_combo_box.WIDGETS, *segments.WIDGETS)
