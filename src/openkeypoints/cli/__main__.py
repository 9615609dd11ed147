"""``python -m openkeypoints.cli`` is ``okp``, also where nothing is installed."""

from __future__ import annotations

from openkeypoints.cli import main

main()
