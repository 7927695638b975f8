"""Draw the panel of MedSeg after a run, without 3D Slicer: ``python Testing/screenshots/panel.py [MODEL]``.

The panel is the real one in the stand-in for the application, with the real worker and the synthetic heart; the picture
goes to ``Resources/Screenshots/panel.png``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Testing"))
os.environ.setdefault("QT_SCALE_FACTOR", "1.5")

from slicer_app import SlicerApplication  # noqa: E402 - the scale must be set before Qt starts

LONGEST_RUN = 900.0
WIDTH, HEIGHT = 460, 900


def main(model: str = "left-atrium-mr", target: Path = ROOT / "Resources" / "Screenshots" / "panel.png") -> None:
    """Segment the sample volume through the panel's own buttons and draw what it shows then."""
    application = SlicerApplication.instance()
    module = application.loadModule(ROOT / "MedSegExtension" / "MedSeg" / "MedSeg.py")
    widget = module.widget
    ui, panel = widget.ui, widget.panel
    widget.logic.getParameterNode().modelName = model
    ui.sampleButton.click()
    application.processEventsUntil(lambda: ui.segmentButton.enabled, 60.0)
    ui.segmentButton.click()
    application.processEventsUntil(lambda: not panel.controller.isRunning, LONGEST_RUN)
    if panel.lastOutcome.state != "done":
        sys.exit(panel.lastOutcome.sentence)
    module.representation.resize(WIDTH, HEIGHT)
    application.processEvents()
    target.parent.mkdir(parents=True, exist_ok=True)
    application.screenshot(target)
    application.reset()


if __name__ == "__main__":
    main(*sys.argv[1:2])
