"""Fuzzes the restricted reader of pickled checkpoints for a bounded time.

Files are damaged in three ways: bytes, instructions of the pickle, members of the zip; others are
pickles drawn from instructions, amplified to a million. Each is read in a process of its own, with
1.5 GB of address space. A finding is an input that raises anything outside ``errors.py``, dies,
runs or imports something, takes over 5 s of CPU or over 1 GB. Findings are kept, and the script
exits 1. Seeds are the files that are named, or small ones that ``tests/`` writes.

    python benchmarks/fuzz_safe.py --minutes 10 [checkpoint.pt ...]
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import json
import os
import pickletools
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openkeypoints import __version__
from openkeypoints.errors import OpenKeypointsError
from openkeypoints.models.yolo.checkpoint import read_checkpoint, recognises
from openkeypoints.weights.safe import Node, read_pickle, state_dict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pickled import module, parameter, tensor, write_checkpoint  # noqa: E402
from tests.tiny_yolo import tiny_yolo  # noqa: E402

LIMIT_S = 5.0
LIMIT_BYTES = 1 << 30
ADDRESS_SPACE = 3 << 29
KILL_AFTER_S = 60
SMALL_BYTES = 10_000
SMALL_SHARE = 0.8
REPORT = ROOT / "benchmarks" / "reports" / "fuzz_safe.json"
FORBIDDEN = {
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pickle.find_class",
    "ctypes.dlopen", "socket.connect", "os.remove", "os.rename", "shutil.rmtree",
}  # fmt: skip
GLOBALS = [
    "os system", "builtins eval", "builtins getattr", "builtins set", "builtins bytes",
    "torch load", "torch Size", "torch device", "torch FloatStorage", "torch BFloat16Storage",
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch.nn.modules A",
    "collections OrderedDict", "collections defaultdict", "ultralytics.nn.tasks PoseModel",
    "__main__ X", "numpy dtype", "numpy ndarray", "numpy.core.multiarray scalar",
    "numpy.core.multiarray _reconstruct", "_codecs encode", "pathlib PosixPath",
    "argparse Namespace",
]  # fmt: skip
EDGES = [0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1]
_STEP = re.compile(r"\d+|'[^']*'|\([^)]*\)")


@dataclass
class Tally:
    """What has been seen."""

    tried: int = 0
    read: int = 0
    mutations: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    sentences: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[int, str] = (0, "")
    findings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Seed:
    """A good file, taken apart."""

    name: str
    pickle: bytes
    members: dict[str, bytes]
    stem: str


# ------------------------------------------------------------------------------- damage


@functools.cache
def instructions(data: bytes) -> tuple[bytes, ...]:
    """Return the instructions of a pickle, each with its argument."""
    starts = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    return tuple(data[a:b] for a, b in itertools.pairwise(starts))


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, cut, insert or repeat a few bytes."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + rng.choice([1, 2, 8, 100])]
            case 2:
                out[at:at] = rng.randbytes(rng.choice([1, 2, 8]))
            case 3:
                out[at : at + 4] = struct.pack("<I", rng.choice(EDGES))
            case 4:
                out[at:at] = out[at : at + rng.choice([4, 40, 400])] * rng.choice([1, 3])
            case _:
                del out[at:]
        if not out:
            break
    return bytes(out)


def random_instruction(rng: random.Random) -> bytes:
    """Return an instruction that fits into a pickle of protocol 2 to 5."""
    place = rng.choice([0, 1, 2, 3, 17, 255])
    edge = rng.choice(EDGES)
    words = rng.choice(["", "storage", "cpu", "0", "forward", "_modules", "latin1", "a" * 300])
    name = rng.choice(GLOBALS).split(" ")
    return rng.choice(
        [
            b"(", b")", b"]", b"}", b"\x8f", b"N", b"\x88", b"t", b"a", b"e", b"s", b"u", b"\x85",
            b"\x86", b"\x87", b"R", b"R", b"\x81", b"b", b"b", b"Q", b"0", b"1", b"2", b"\x94",
            b"\x90", b"\x91", b"\x93", b"o", b"\x92", b"\x97", b"\x98",
            b"h%c" % place, b"q%c" % place, b"j" + struct.pack("<I", edge),
            b"r" + struct.pack("<I", edge), b"K%c" % place, b"M" + struct.pack("<H", edge & 0xFFFF),
            b"J" + struct.pack("<I", edge), b"\x8a\x09" + rng.randbytes(9),
            b"\x8b" + struct.pack("<I", edge), b"G" + rng.randbytes(8),
            b"X" + struct.pack("<I", len(words)) + words.encode(),
            b"B" + struct.pack("<I", 8) + rng.randbytes(8), b"\x82\x01", b"P0\n", b"I1\n",
            b"c" + "\n".join(name).encode() + b"\n", b"c" + "\n".join(name).encode() + b"\n",
            b"i" + "\n".join(name).encode() + b"\n",
        ]
    )  # fmt: skip


def damage_instructions(data: bytes, rng: random.Random) -> bytes:
    """Take out, double, exchange, replace or insert instructions of a whole pickle."""
    ops = list(instructions(data))
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, other = rng.randrange(1, len(ops)), rng.randrange(1, len(ops))
        match rng.randrange(7):
            case 0:
                del ops[at : at + rng.choice([1, 1, 3, 30])]
            case 1:
                ops[at:at] = ops[at : at + rng.choice([1, 5, 50])] * rng.choice([1, 2, 50])
            case 2:
                ops[at], ops[other] = ops[other], ops[at]
            case 3:
                ops[at] = random_instruction(rng)
            case 4:
                ops[at:at] = [random_instruction(rng) for _ in range(rng.choice([1, 3, 10]))]
            case 5:
                ops[at:at] = ops[other : other + 40]
            case _:
                ops[at] = changed_argument(ops[at], rng)
        if len(ops) < 3:
            break
    return b"".join(ops)


def changed_argument(op: bytes, rng: random.Random) -> bytes:
    """Return an instruction with another number as its argument."""
    if op[:1] in b"Kqh" and len(op) == 2:
        return op[:1] + bytes([rng.randrange(256)])
    if op[:1] in b"JrjX" and len(op) >= 5:
        return op[:1] + struct.pack("<I", rng.choice(EDGES)) + op[5:]
    if op[:1] == b"M":
        return b"M" + struct.pack("<H", rng.choice(EDGES) & 0xFFFF)
    if op[:1] == b"c":
        return b"c" + rng.choice(GLOBALS).replace(" ", "\n").encode() + b"\n"
    return op


def drawn_pickle(rng: random.Random) -> bytes:
    """Return a pickle of random instructions, a part of which may come a million times."""
    body = [random_instruction(rng) for _ in range(rng.choice([3, 10, 30]))]
    if rng.random() < 0.7:
        at = rng.randrange(len(body))
        loop = b"".join(body[at : at + rng.choice([1, 2, 3, 5])])
        body[at:at] = [loop * rng.choice([10, 1000, 200_000, 1_000_000 // max(1, len(loop))])]
    end = rng.choice([b".", b"t.", b"e.", b""])
    return bytes([0x80, rng.choice([2, 2, 4])]) + rng.choice([b"", b"("]) + b"".join(body) + end


def amplified(rng: random.Random) -> bytes:
    """Return a pickle that makes much of little: a name, a value and a mapping, used often."""
    size = rng.choice([10, 1000, 100_000])
    values = [
        b")",
        b"(" + b"N" * size + b"t",
        b"](" + b"N" * size + b"e\x85",
        b"X" + struct.pack("<I", size * 10) + b"a" * size * 10 + b"\x85",
    ]
    numbers = (b"J" + struct.pack("<i", i) + b"N" for i in range(min(size, 10**4)))
    start = [
        b"\x80\x02c" + rng.choice(GLOBALS).replace(" ", "\n").encode() + b"\nq\x00",
        rng.choice(values) + b"q\x01",
        b"}(" + b"".join(numbers) + b"uq\x02",
    ]
    loops = [
        b"]", b"}", b"\x8f", b")\x85", b"](", b"h\0h\1R", b"h\0)\x81", b"h\1", b"N",
        b"h\1h\1\x86", b"](h\1h\1e", b"h\0)\x81h\2b", b"\x8f\x94",
    ]  # fmt: skip
    times = rng.choice([100, 10_000, 300_000, 1_100_000])
    end = rng.choice([b"t.", b"e.", b"\x85" * 1000 + b"t.", b"a" * 1000 + b"t."])
    return b"".join([*start, b"000(", rng.choice(loops) * times, end])


def damage_members(seed: Seed, rng: random.Random) -> bytes:
    """Write the archive with a member missing, resized, doubled, compressed or renamed."""
    members = dict(seed.members)
    name = rng.choice(list(members))
    how = zipfile.ZIP_STORED
    match rng.randrange(8):
        case 0:
            del members[name]
        case 1:
            members[name] = members[name][: rng.randrange(len(members[name]) + 1)]
        case 2:
            members[name] += bytes(rng.choice([1, 8, 10**6]))
        case 3:
            members[rng.choice(["code/a.py", "constants.pkl", "x/data.pkl", "data/999999"])] = b"x"
        case 4:
            how = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
        case 5:
            members["byteorder"] = rng.choice([b"big", b"", bytes(10**6)])
        case 6:
            members[name] = rng.choice(list(seed.members.values()))
        case _:
            members = {f"data/{i}": b"" for i in range(rng.choice([1000, 60_000]))} | members
    return archive(seed.stem, members, how)


def archive(stem: str, members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    """Return the bytes of a zip with these members below one folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as out:
        for name, data in members.items():
            out.writestr(zipfile.ZipInfo(f"{stem}/{name}"), data, how)
    return file.getvalue()


@functools.cache
def whole_archive(seed: Seed) -> bytes:
    """Return the good file again."""
    return archive(seed.stem, {"data.pkl": seed.pickle} | seed.members)


def damage_zip(seed: Seed, rng: random.Random) -> bytes:
    """Damage the bytes of the archive: at its table of contents more often than elsewhere."""
    whole = whole_archive(seed)
    split = whole.index(b"PK\x01\x02") if rng.random() < 0.8 else 0
    if rng.random() < 0.3:
        split = len(whole) - 22
    return whole[:split] + damage_bytes(whole[split:], rng)


def with_pickle(make: Callable[[bytes, random.Random], bytes]) -> Callable[..., bytes]:
    """Return a damage of the pickle as one of the file."""

    def damage(seed: Seed, rng: random.Random) -> bytes:
        return archive(seed.stem, {"data.pkl": make(seed.pickle, rng)} | seed.members)

    return damage


DAMAGES: dict[str, Callable[[Seed, random.Random], bytes]] = {
    "bytes of the pickle": with_pickle(damage_bytes),
    "instructions": with_pickle(damage_instructions),
    "drawn pickles": with_pickle(lambda _, rng: drawn_pickle(rng)),
    "amplified pickles": with_pickle(lambda _, rng: amplified(rng)),
    "members": damage_members,
    "bytes of the archive": damage_zip,
}
WEIGHTS = [4, 8, 2, 2, 2, 4]


# ------------------------------------------------------------------------------- reading


def read(path: Path) -> dict[str, Any]:
    """Read a file in every way that the library does; return how it ended."""
    try:
        tree = read_pickle(path)
        for node in (tree.get("ema"), tree.get("model")) if isinstance(tree, dict) else [tree]:
            if isinstance(node, Node):
                for array in state_dict(node).values():
                    np.asarray(array, np.float32)
        if recognises(path):
            read_checkpoint(path)
    except OpenKeypointsError as error:
        return {"kind": "refused", "class": type(error).__name__, "words": str(error)}
    return {"kind": "read"}


def watch(events: list[str]) -> None:
    """Note everything that this process runs from now on."""

    def hook(event: str, _args: object) -> None:
        if event in FORBIDDEN:
            events.append(event)

    sys.addaudithook(hook)


def in_child(path: Path, pipe: int) -> None:
    """Read a file under limits and write how it ended; never returns."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(KILL_AFTER_S)
    events: list[str] = []
    watch(events)
    try:
        answer = read(path)
    except BaseException:  # noqa: BLE001 - what this script looks for
        answer = {"kind": "escaped", "words": traceback.format_exc()[-2000:]}
    if events:
        answer = {"kind": "ran", "words": ", ".join(events)}
    os.write(pipe, json.dumps(answer).encode()[:60_000])
    os._exit(0)


def attempt(path: Path) -> tuple[dict[str, Any], float, int]:
    """Return how the reading of a file ended, its CPU seconds and its peak of memory in bytes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        in_child(path, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if text:
        answer = json.loads(text)
    else:
        answer = {"kind": "died", "words": f"status {status} (signal {status & 127})"}
    return answer, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


# ------------------------------------------------------------------------------- the run


def take_apart(path: Path) -> Seed:
    """Return a good file as a seed."""
    with zipfile.ZipFile(path) as file:
        pickle = next(n for n in file.namelist() if n.endswith("/data.pkl"))
        stem = pickle.removesuffix("/data.pkl")
        members = {n.removeprefix(stem + "/"): file.read(n) for n in file.namelist() if n != pickle}
        return Seed(path.name, file.read(pickle), members, stem)


def own_seeds(folder: Path) -> list[Path]:
    """Write small good files of every kind."""
    values = {
        "fitness": np.float64(0.5),
        "array": np.arange(3.0),
        "path": Path("a/b"),
        "args": argparse.Namespace(imgsz=64),
        "set": {"a"},
        "tensors": [tensor(np.ones((2, 3), kind)) for kind in ("f4", "i8", "b1")],
    }
    norm = module("torch.nn.modules.B", buffers={"mean": tensor(np.ones(2, np.float16))}, eps=0.1)
    conv = module("torch.nn.modules.C", parameters={"weight": parameter(np.ones((2, 3)))})
    network = module("ultralytics.nn.tasks.PoseModel", children={"0": conv, "1": norm}, nc=1)
    return [
        write_checkpoint(folder / "network.pt", {"model": network, "ema": None}),
        write_checkpoint(folder / "values2.pt", values, protocol=2),
        write_checkpoint(folder / "values4.pt", values, protocol=4),
        tiny_yolo(folder / "v8.pt", family="v8"),
        tiny_yolo(folder / "26.pt", family="26", task="detect"),
    ]


def judge(tally: Tally, damage: str, path: Path, keep: Path) -> None:
    """Read one input and enter it into the tally; keep it if it is a finding."""
    answer, seconds, peak = attempt(path)
    tally.tried += 1
    tally.mutations[damage] += 1
    tally.slowest = max(tally.slowest, (round(seconds, 3), damage))
    tally.largest = max(tally.largest, (peak, damage))
    kind = answer["kind"]
    if kind == "read":
        tally.read += 1
    elif kind == "refused":
        tally.refusals[answer["class"]] += 1
        tally.sentences[_STEP.sub("*", answer["words"].partition(": ")[2])[:60]] += 1
    over = (["slow"] if seconds > LIMIT_S else []) + (["large"] if peak > LIMIT_BYTES else [])
    if kind not in ("read", "refused") or over:
        keep.mkdir(parents=True, exist_ok=True)
        kept = keep / f"finding{len(tally.findings)}.pt"
        kept.write_bytes(path.read_bytes())
        finding = {"kind": over or kind, "damage": damage, "seconds": round(seconds, 2),
                   "mb": peak >> 20, "words": answer.get("words", "")}  # fmt: skip
        tally.findings.append(finding)
        print(f"FINDING, kept as {kept}: {finding}", flush=True)


def fuzz(seeds: list[Seed], minutes: float, rng: random.Random, keep: Path) -> Tally:
    """Damage and read until the time is over."""
    tally = Tally()
    small = [seed for seed in seeds if len(seed.pickle) < SMALL_BYTES]
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.pt"
        while time.monotonic() < end:
            damage = rng.choices(list(DAMAGES), WEIGHTS)[0]
            # Small files are quick, so that most of the time is theirs.
            seed = rng.choice(small if rng.random() < SMALL_SHARE else seeds)
            path.write_bytes(DAMAGES[damage](seed, rng))
            judge(tally, damage, path, keep)
    return tally


def write_report(path: Path, tally: Tally, args: argparse.Namespace, seeds: list[Seed]) -> None:
    """Write the figures as JSON and, for people, as Markdown beside it."""
    report = {
        "openkeypoints": __version__,
        "python": sys.version.split()[0],
        "minutes": args.minutes,
        "seed": args.seed,
        "files": [seed.name for seed in seeds],
        "tried": tally.tried,
        "read": tally.read,
        "by_damage": dict(tally.mutations.most_common()),
        "refused": dict(tally.refusals.most_common()),
        "findings": tally.findings,
        "slowest_cpu_s": tally.slowest,
        "largest_mb": (tally.largest[0] >> 20, tally.largest[1]),
        "limits": {"cpu_s": LIMIT_S, "mb": LIMIT_BYTES >> 20},
        "sentences": dict(tally.sentences.most_common()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    rows = [
        ("inputs", tally.tried),
        ("read as values", tally.read),
        *((f"refused with {name}", count) for name, count in tally.refusals.most_common()),
        ("errors outside `errors.py`, deaths, over a limit", len(tally.findings)),
        (f"slowest, CPU s (limit {LIMIT_S:g})", f"{tally.slowest[0]:.2f} ({tally.slowest[1]})"),
        (f"largest, MB (limit {LIMIT_BYTES >> 20})",
         f"{tally.largest[0] >> 20} ({tally.largest[1]})"),
        ("different sentences", len(tally.sentences)),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    path.with_suffix(".md").write_text(
        f"# Fuzzing the restricted reader: {args.minutes:g} minutes\n\n"
        "`benchmarks/fuzz_safe.py`: damaged checkpoints, each read in a process of its own.\n\n"
        f"| what | how many |\n| --- | --- |\n{table}\n"
    )


def main() -> int:
    """Run, write the report, and return 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="good checkpoints to damage")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="for findings")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = own_seeds(Path(folder)) + args.files
        for path in paths:
            answer, seconds, peak = attempt(path)
            if answer["kind"] not in ("read", "refused"):
                raise SystemExit(f"{path.name} is no good seed: {answer}")
            print(f"seed {path.name}: {answer} {seconds:.2f} s, {peak >> 20} MB", flush=True)
        seeds = [take_apart(path) for path in paths]
    tally = fuzz(seeds, args.minutes, random.Random(args.seed), args.keep)  # noqa: S311
    write_report(args.report, tally, args, seeds)
    print(args.report.with_suffix(".md").read_text())
    return 1 if tally.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
