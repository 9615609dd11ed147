"""Openly licensed photographs in the package, for documentation, demos and tests."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from openkeypoints.errors import NotFoundError

# Name -> file beside this module; who made each picture stands in NOTICE.
_PICTURES = {
    "people": "people.jpg",
}


def sample(name: str) -> Path:
    """Return the path of a photograph that comes with the package.

    Args:
        name: ``people``: two men standing in a park, both whole.

    Raises:
        NotFoundError: no picture has this name.

    Example:
        >>> sample("people").name
        'people.jpg'
    """
    if name not in _PICTURES:
        close = get_close_matches(name, _PICTURES, n=3) or sorted(_PICTURES)
        raise NotFoundError(f"no sample {name!r}: take one of {', '.join(close)}.")
    return Path(__file__).with_name(_PICTURES[name])
