"""A machine for the instructions of a pickle, which can build plain values and nothing else.

Python's own unpickler imports and calls what a file names. This one has no import, and calls only
the stand-ins that it is given. It knows the instructions of protocols 2 to 5 that values need; each
step is paid from a budget, so that a small file cannot make much of itself.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from openkeypoints.errors import UnsafeCheckpointError, WeightsError
from openkeypoints.weights.inert import Budget, Name, Node, Pending

MAX_INTEGER_BYTES = 32
MAX_KEY = 1 << 60
"""Integers below this have a hash of their own, so no file can make a dictionary slow with them."""
MAX_NAME = 200
_STOP = ord(".")
_EXTENSIONS = {0x82, 0x83, 0x84}
_KEY_TYPES = (str, bytes, float, bool, type(None))


class Machine:
    """Runs one pickle.

    Args:
        data: the pickle.
        find: gives what stands for a module's name, or raises.
        load: gives the storage that a persistent id means, or raises.
        budget: pays for the steps.
    """

    def __init__(
        self,
        data: bytes,
        find: Callable[[str, str], Any],
        load: Callable[[Any], Any],
        budget: Budget,
    ) -> None:
        self._data = data
        self._find = find
        self._load = load
        self._budget = budget
        self._at = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return the value that the pickle describes.

        Raises:
            UnsafeCheckpointError: it asks for more than values.
            WeightsError: it is truncated, padded or no pickle.
        """
        if self._data[:1] != b"\x80" or self._data[1:2] not in (b"\2", b"\3", b"\4", b"\5"):
            raise WeightsError("The pickle has no protocol of 2 to 5: save the checkpoint anew.")
        self._at = 2
        spend = self._budget.spend
        while (code := self._byte()) != _STOP:
            spend(1)
            action = _ACTIONS.get(code)
            if action is None:
                raise UnsafeCheckpointError(_no_action(code))
            action(self)
        if len(self._data) > self._at:
            surplus = len(self._data) - self._at
            raise WeightsError(f"The pickle is padded: {surplus} bytes follow its end.")
        if len(self._stack) != 1 or self._marks:
            raise _malformed()
        return self._stack[0]

    # ---- reading

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise WeightsError(
                f"The pickle is truncated: it ends after {len(self._data)} bytes, in the middle; "
                "fetch or copy the file again."
            )
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def _byte(self) -> int:
        at = self._at
        if at >= len(self._data):
            self._take(1)  # says that it is truncated
        self._at = at + 1
        return self._data[at]

    def _number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self._take(layout.size))[0]

    def _sized(self, layout: struct.Struct) -> bytes:
        return self._take(self._number(layout))

    def _skip_frame(self) -> None:
        self._take(8)

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + MAX_NAME + 1)
        if end < 0:
            if len(self._data) - self._at > MAX_NAME:
                raise UnsafeCheckpointError(f"The pickle has a name of over {MAX_NAME} bytes.")
            self._take(len(self._data) - self._at + 1)
        return _text(self._take(end + 1 - self._at)[:-1])

    # ---- the stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise _malformed()
        return self._stack.pop()

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise _malformed()
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        if not self._marks:
            raise _malformed()
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _pop_one(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()

    def _push_tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(values)))

    def _push_integer(self, size: int) -> None:
        if size > MAX_INTEGER_BYTES:
            raise UnsafeCheckpointError(
                f"The pickle has an integer of {size} bytes, which no checkpoint needs."
            )
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    # ---- the memo

    def _remember(self, place: int) -> None:
        value = self._top()
        if isinstance(value, Pending):
            value.places.append(place)
        self._memo[place] = value

    def _recall(self, place: int) -> None:
        if place not in self._memo:
            raise _malformed()
        self._push(self._memo[place])

    # ---- containers

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise _refused_target("items", target)
        target.extend(values)

    def _update(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) not in (dict, OrderedDict):
            raise _refused_target("entries", target)
        if len(values) % 2:
            raise _malformed()
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[checked_key(key)] = value

    def _set_one(self) -> None:
        value = self._pop()
        self._update([self._pop(), value])

    def _add(self) -> None:
        values = self._since_mark()
        target = self._top()
        if type(target) is not set:
            raise _refused_target("members", target)
        target.update(map(checked_key, values))

    # ---- names and objects

    def _push_name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise UnsafeCheckpointError("The pickle names a class by something that is no text.")
        if len(module) + len(name) > MAX_NAME:
            raise UnsafeCheckpointError(f"The pickle has a name of over {MAX_NAME} characters.")
        if not (module.isprintable() and name.isprintable()):  # nor may a message carry them
            raise UnsafeCheckpointError(
                "The pickle names a class with characters that cannot be shown: do not use the "
                "file."
            )
        self._push(self._find(module, name))

    def _named_by_lines(self) -> None:
        module = self._line()
        self._push_name(module, self._line())

    def _named_by_stack(self) -> None:
        name = self._pop()
        self._push_name(self._pop(), name)

    def _call(self) -> None:
        args = self._pop()
        called = self._pop()
        if not isinstance(called, Name) or called.make is None:
            what = called.path if isinstance(called, Name | Node) else "a value"
            raise UnsafeCheckpointError(
                f"The pickle calls {what}, which is nothing that a checkpoint may call: do not "
                "use the file."
            )
        if type(args) is not tuple:
            raise _malformed()
        # One large tuple may be the arguments of many calls.
        self._budget.spend(len(args))
        self._push(called.make(args))

    def _build(self) -> None:
        state = self._pop()
        target = self._pop()
        if isinstance(target, Pending):
            value = target.complete(state)
            for place in target.places:
                if self._memo.get(place) is target:
                    self._memo[place] = value
            self._push(value)
            return
        if isinstance(target, Node):
            self._give_state(target, state)
        elif not (type(target) is OrderedDict and _is_metadata(state)):
            raise _refused_target("attributes", target)
        self._push(target)

    def _give_state(self, node: Node, state: Any) -> None:
        # The state is kept, not copied: one dictionary may be the state of many objects.
        if type(state) is tuple and len(state) == 2 and state[1] is None:
            state = state[0]
        self._budget.spend(len(state) if type(state) is dict else 0)
        if type(state) is not dict or not all(type(name) is str for name in state):
            raise UnsafeCheckpointError(
                f"An object of {node.path} has a state that is no mapping of names to values."
            )
        if node.state:
            raise UnsafeCheckpointError(f"An object of {node.path} is given a state twice.")
        node.state = state


def checked_key(key: Any) -> Any:
    """Return a key of a dictionary or set.

    Raises:
        UnsafeCheckpointError: it is of a kind whose hashes a file can choose.
    """
    if isinstance(key, _KEY_TYPES) or (isinstance(key, int) and abs(key) < MAX_KEY):
        return key
    raise UnsafeCheckpointError(
        f"The pickle has a key of the kind {type(key).__name__} (or too large a number) in a "
        "dictionary or set; checkpoints have text and small numbers there."
    )


def _is_metadata(state: Any) -> bool:
    """Whether this is the version table that torch hangs on its state dicts."""
    return type(state) is dict and list(state) == ["_metadata"]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise WeightsError("The pickle is damaged: it has text that is no UTF-8.") from error


def _malformed() -> WeightsError:
    return WeightsError("The pickle is damaged: its instructions do not fit together.")


def _refused_target(what: str, target: Any) -> UnsafeCheckpointError:
    kind = target.path if isinstance(target, Name | Node | Pending) else type(target).__name__
    return UnsafeCheckpointError(
        f"The pickle gives {what} to {kind}, which takes none: do not use the file."
    )


def _no_action(code: int) -> str:
    if code in _EXTENSIONS:
        return (
            "The pickle names something by a number of Python's extension registry, which hides "
            "what it is: do not use the file."
        )
    return (
        f"The pickle has the instruction {code:#04x}, which no checkpoint of PyTorch has: do not "
        "use the file, or save it again with torch.save."
    )


_Action = Callable[[Machine], None]
_U1, _U2, _U4, _U8 = (struct.Struct(f"<{size}") for size in "BHIQ")
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


def _constant(value: Any) -> _Action:
    return lambda machine: machine._push(value)


# Part of the machine, which a table shows best; the names are those of Python's pickletools.
_ACTIONS: dict[int, _Action] = {
    0x95: Machine._skip_frame,  # FRAME
    ord("("): Machine._mark,  # MARK
    ord("0"): Machine._pop_one,  # POP
    ord("1"): lambda m: m._since_mark().clear(),  # POP_MARK
    ord("N"): _constant(None),  # NONE
    0x88: _constant(True),  # NEWTRUE
    0x89: _constant(False),  # NEWFALSE
    ord("K"): lambda m: m._push(m._byte()),  # BININT1
    ord("M"): lambda m: m._push(m._number(_U2)),  # BININT2
    ord("J"): lambda m: m._push(m._number(_I4)),  # BININT
    0x8A: lambda m: m._push_integer(m._byte()),  # LONG1
    0x8B: lambda m: m._push_integer(m._number(_U4)),  # LONG4
    ord("G"): lambda m: m._push(m._number(_F8)),  # BINFLOAT
    0x8C: lambda m: m._push(_text(m._sized(_U1))),  # SHORT_BINUNICODE
    ord("X"): lambda m: m._push(_text(m._sized(_U4))),  # BINUNICODE
    0x8D: lambda m: m._push(_text(m._sized(_U8))),  # BINUNICODE8
    ord("C"): lambda m: m._push(m._sized(_U1)),  # SHORT_BINBYTES
    ord("B"): lambda m: m._push(m._sized(_U4)),  # BINBYTES
    0x8E: lambda m: m._push(m._sized(_U8)),  # BINBYTES8
    ord("]"): lambda m: m._push([]),  # EMPTY_LIST
    ord("a"): lambda m: m._extend([m._pop()]),  # APPEND
    ord("e"): lambda m: m._extend(m._since_mark()),  # APPENDS
    ord(")"): _constant(()),  # EMPTY_TUPLE
    ord("t"): lambda m: m._push(tuple(m._since_mark())),  # TUPLE
    0x85: lambda m: m._push_tuple(1),  # TUPLE1
    0x86: lambda m: m._push_tuple(2),  # TUPLE2
    0x87: lambda m: m._push_tuple(3),  # TUPLE3
    ord("}"): lambda m: m._push({}),  # EMPTY_DICT
    ord("s"): Machine._set_one,  # SETITEM
    ord("u"): lambda m: m._update(m._since_mark()),  # SETITEMS
    0x8F: lambda m: m._push(set()),  # EMPTY_SET
    0x90: Machine._add,  # ADDITEMS
    0x91: lambda m: m._push(frozenset(map(checked_key, m._since_mark()))),  # FROZENSET
    ord("q"): lambda m: m._remember(m._byte()),  # BINPUT
    ord("r"): lambda m: m._remember(m._number(_U4)),  # LONG_BINPUT
    0x94: lambda m: m._remember(len(m._memo)),  # MEMOIZE
    ord("h"): lambda m: m._recall(m._byte()),  # BINGET
    ord("j"): lambda m: m._recall(m._number(_U4)),  # LONG_BINGET
    ord("c"): Machine._named_by_lines,  # GLOBAL
    0x93: Machine._named_by_stack,  # STACK_GLOBAL
    ord("R"): Machine._call,  # REDUCE
    0x81: Machine._call,  # NEWOBJ: to a stand-in the same as a call
    ord("b"): Machine._build,  # BUILD
    ord("Q"): lambda m: m._push(m._load(m._pop())),  # BINPERSID
}
