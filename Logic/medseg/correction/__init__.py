"""Repairing a segmentation where the user points: clicks, who simulates them, and the networks that follow them."""

from medseg.correction.clicks import Click, click_maps
from medseg.correction.simulation import first_click, next_click

__all__ = ["Click", "click_maps", "first_click", "next_click"]
