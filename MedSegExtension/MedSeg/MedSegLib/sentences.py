"""How sentences look in the panel."""

from __future__ import annotations

from html import escape

ERROR_COLOR, HINT_COLOR = "#c0392b", "#b9770e"


def colored(sentence: str, color: str) -> str:
    """Return a sentence as rich text in a color."""
    return f'<span style="color:{color};">{escape(sentence)}</span>'
