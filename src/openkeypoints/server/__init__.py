"""The HTTP server: keys, limits, sight, and the surfaces that clients already speak."""
