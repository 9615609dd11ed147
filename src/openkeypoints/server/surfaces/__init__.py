"""The wire formats that the server speaks, each with a ``router``; app.py mounts them in order."""
