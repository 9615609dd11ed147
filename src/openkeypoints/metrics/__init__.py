"""Predictions and labelled pictures in, figures out: OKS, PCK, AP, calibration.

``report.score`` gives every figure at once; the modules beside it hold the definitions.
"""

from openkeypoints.metrics.report import score

__all__ = ["score"]
