"""What every part of a recipe has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the recipe; a key that is not known is an error, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
