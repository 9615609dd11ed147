"""Loads the model that the options of a command name."""

from __future__ import annotations

from openkeypoints.cli.options import ModelOptions
from openkeypoints.models import Model, get_model


def load_model(options: ModelOptions) -> Model:
    """Return the model, ready to run.

    Raises:
        OpenKeypointsError: see ``get_model``.
    """
    return get_model(
        options.model,
        card=options.card,
        runtime=options.runtime,
        device=options.device,
        precision=options.precision,
    )
