"""How volumes look: window, level and colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def copy_window(source: Any, target: Any) -> None:
    """Show a volume node with window, level and colours of another; nothing happens when either is not shown."""
    shown, display = source.GetDisplayNode(), target.GetDisplayNode()
    if shown is None or display is None or not shown.IsA("vtkMRMLScalarVolumeDisplayNode"):
        return
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
    display.SetAndObserveColorNodeID(shown.GetColorNodeID())


def color_node(scene: Any, names: Sequence[str]) -> Any:
    """Return the first colour table of these names that the scene has; ``None``: it has none of them."""
    for name in names:
        node = scene.GetFirstNodeByName(name)
        if node is not None and node.IsA("vtkMRMLColorNode"):
            return node
    return None
