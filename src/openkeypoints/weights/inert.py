"""What stands for the objects, classes and functions that a pickle names, and can do nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openkeypoints.errors import UnsafeCheckpointError

MAX_STEPS = 1_000_000
"""Instructions and copied elements; the pickles of the largest networks have 200 000."""


@dataclass(slots=True, eq=False)
class Node:
    """An object of a class that is not known here: its class's name and what it held.

    Attributes:
        path: module and name of the class, "torch.nn.modules.conv.Conv2d".
        args: what it was made with.
        state: its attributes.
    """

    path: str
    args: tuple[Any, ...] = field(default=(), repr=False)
    state: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The class's name without its module."""
        return self.path.rpartition(".")[2]

    def get(self, attribute: str, default: Any = None) -> Any:
        """Return an attribute, or, where it has none of that name, a child of a module."""
        if attribute in self.state:
            return self.state[attribute]
        children = self.state.get("_modules")
        return children.get(attribute, default) if isinstance(children, dict) else default


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A class or function that the pickle names.

    Attributes:
        path: module and name.
        make: called with the arguments in place of the thing itself; None where no call is allowed.
    """

    path: str
    make: Callable[[tuple[Any, ...]], Any] | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class Pending:
    """A value that its state completes.

    Attributes:
        path: the name of its class.
        complete: makes the value of the state.
        places: where the memo holds this in place of the value.
    """

    path: str
    complete: Callable[[Any], Any] = field(repr=False)
    places: list[int] = field(default_factory=list, repr=False)


class Budget:
    """What the pickle of one file may still cost."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Take steps from the budget.

        Raises:
            UnsafeCheckpointError: there are not as many left.
        """
        self._left -= steps
        if self._left < 0:
            raise UnsafeCheckpointError(
                f"The pickle takes more than {MAX_STEPS} steps, several times what the largest "
                "networks need: it is made to exhaust this machine, so do not use the file."
            )
