"""Opens the model that the options of a command name, and says what it is asked."""

from __future__ import annotations

from openkeypoints.cli.options import ModelOptions
from openkeypoints.models import InferOptions, Model, get_model


def load_model(options: ModelOptions) -> Model:
    """Return the model, ready to run.

    Raises:
        OpenKeypointsError: see ``get_model``.
    """
    return get_model(
        options.model,
        card=options.card,
        detector=options.detector,
        keypoints=options.keypoints or None,
        runtime=options.runtime,
        device=options.device,
        precision=options.precision,
    )


def infer_options(options: ModelOptions, *, flip_test: bool = False) -> InferOptions:
    """Return what only some families know, of what a command was asked for."""
    return InferOptions(
        input_size=options.input_size,
        max_persons=options.max_persons,
        box_threshold=options.box_threshold,
        flip_test=flip_test,
    )
