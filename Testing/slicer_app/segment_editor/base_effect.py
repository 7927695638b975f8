"""The module ``SegmentEditorEffects``: the base class of effects in Python. Written anew after the real one.

The stand-in has none of the effects that the real module has beside it, nor their base classes.
"""

from __future__ import annotations

from typing import Any

__all__ = ["AbstractScriptedSegmentEditorEffect"]


def _numbers(vector: Any) -> list[float]:
    return [vector.x(), vector.y(), vector.z()]


class AbstractScriptedSegmentEditorEffect:
    """Registers an effect, and turns positions into each other as lists of numbers."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        import slicer

        slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self) -> None:
        """Nothing by default."""

    def rasToXy(self, ras: Any, viewWidget: Any) -> list[int]:
        import qt

        point = self.scriptedEffect.rasToXy(qt.QVector3D(ras[0], ras[1], ras[2]), viewWidget)
        return [point.x(), point.y()]

    def xyzToRas(self, xyz: Any, viewWidget: Any) -> list[float]:
        import qt

        return _numbers(self.scriptedEffect.xyzToRas(qt.QVector3D(xyz[0], xyz[1], xyz[2]), viewWidget))

    def xyToRas(self, xy: Any, viewWidget: Any) -> list[float]:
        import qt

        return _numbers(self.scriptedEffect.xyToRas(qt.QPoint(xy[0], xy[1]), viewWidget))

    def xyzToIjk(self, xyz: Any, viewWidget: Any, image: Any, parentTransformNode: Any = None) -> list[int]:
        import qt

        vector = qt.QVector3D(xyz[0], xyz[1], xyz[2])
        ijk = self.scriptedEffect.xyzToIjk(vector, viewWidget, image, parentTransformNode)
        return [int(value) for value in _numbers(ijk)]

    def xyToIjk(self, xy: Any, viewWidget: Any, image: Any, parentTransformNode: Any = None) -> list[int]:
        import qt

        ijk = self.scriptedEffect.xyToIjk(qt.QPoint(xy[0], xy[1]), viewWidget, image, parentTransformNode)
        return [int(value) for value in _numbers(ijk)]
