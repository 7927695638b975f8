"""A synthetic heart as sample data: computed here, so nothing is downloaded and nobody's image is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from medseg.volumes import Volume

CATEGORY = "MedSeg"
SAMPLE_NAME = "MedSegPhantom"
HOMEPAGE = "https://github.com/SlicerMedSeg/SlicerMedSeg"


def registerSampleData() -> None:
    """Offer the synthetic heart in the module Sample Data, where the application has it."""
    try:
        import SampleData
    except ImportError:  # an application built on Slicer may come without it
        return

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # since 2026-04
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("MedSeg"))
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE_NAME,
        thumbnailFileName=str(Path(__file__).resolve().parents[1] / "Resources" / "Icons" / f"{SAMPLE_NAME}.png"),
        # Sample Data wants a place to download from; the custom downloader makes the volume without it.
        uris=HOMEPAGE,
        fileNames=f"{SAMPLE_NAME}.nrrd",
        nodeNames=SAMPLE_NAME,
        customDownloader=loadSample,
    )


def makeSample() -> Volume:
    """Return the synthetic cardiac MR; touches neither Qt nor MRML, so it may run in any thread."""
    from medseg.phantom import left_atrium_phantom

    image, _truth = left_atrium_phantom()
    return image


def showSample(volume: Volume) -> Any:
    """Add the volume to the scene, show it in the slice views and return its node."""
    from medseg.mrml import volume_to_node

    node = volume_to_node(volume, slicer.mrmlScene, SAMPLE_NAME)
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def loadSample(_source: Any = None) -> list[Any]:
    """Make and show the sample at once: what Sample Data calls."""
    return [showSample(makeSample())]
