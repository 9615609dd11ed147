"""The sources of weights: one module each."""
