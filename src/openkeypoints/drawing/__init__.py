"""Drawing predictions on pictures."""

from __future__ import annotations

from openkeypoints.drawing.picture import DrawStyle, draw

__all__ = ["DrawStyle", "draw"]
