"""Damage to .nir files, and what reading makes of it.

    PYTHONPATH=tests python -m reference.nir_mutations 5000 [first seed]

prints how many of 5,000 damaged files were refused, read as they were written, or read as another network: files that
`spyx.nir.write` wrote, files that `nir.write` wrote, and files whose contents were edited and are not verified.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from flax import nnx

from spyx import nn

nir = pytest.importorskip("nir")
from spyx.data import _guarded  # noqa: E402
from spyx.nir import read, to_nir, write  # noqa: E402
from spyx.nir._validate import validated  # noqa: E402

PATIENCE_S = 2


def networks() -> list[nir.NIRGraph]:
    """A convolutional and a recurrent network of ours, and one with a sub-graph."""
    rngs = nnx.Rngs(0)
    rest = (nn.IF((5, 5, 2)), nn.SumPool(2, 2, "VALID"), nn.Flatten(), nnx.Linear(8, 3, rngs=rngs), nn.LI(3))
    maps = to_nir(nn.Sequential(nn.Conv(1, 2, (3, 3), rngs=rngs), *rest), 1e-3, input_shape=(5, 5, 1))
    ring = to_nir(nn.Sequential(nnx.Linear(3, 4, rngs=rngs), nn.RLIF(4, rngs=rngs), nn.CuBaLIF(4, rngs=rngs)), 1e-3)
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([4])})}
    whole = nir.NIRGraph({**ends, "sub": ring}, [("input", "sub"), ("sub", "output")], type_check=False)
    return [maps, ring, whole]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One kind of damage, at a random place."""
    place, bad = rng.randrange(len(data)), bytearray(data)
    length = min(rng.choice([1, 2, 8, 64, 512]), len(data) - place)
    other = rng.randrange(len(data) - length + 1)
    kind = rng.randrange(8)
    if kind == 0:
        return data[:place]
    if kind == 1:
        bad[place] ^= 1 << rng.randrange(8)
    elif kind == 2:
        for _ in range(rng.choice([1, 4, 32])):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
    elif kind == 3:
        bad[place : place + length] = rng.randbytes(length)
    elif kind == 4:
        bad[place : place + length] = bytes(length)
    elif kind == 5:
        bad[rng.randrange(min(2048, len(bad)))] = rng.randrange(256)
    elif kind == 6:
        bad[place : place + length], bad[other : other + length] = (
            bad[other : other + length],
            bad[place : place + length],
        )
    else:
        bad[place:place] = rng.randbytes(length) if rng.random() < 0.5 else b""
        del bad[other : other + length]
    return bytes(bad)


def edited(path: Path, rng: random.Random) -> None:
    """One edit of the contents, as a program would make it."""
    with h5py.File(path, "r+") as file:
        found: list[str] = []
        file["node"].visit(lambda name: found.append(name))
        name = rng.choice(found)
        old = file["node"][name]
        kind = rng.randrange(5)
        if kind == 0 or isinstance(old, h5py.Group):
            del file["node"][name]
        elif kind == 1:
            file["node"].move(name, f"{name}_")
        else:
            value = np.asarray(rng.choice([np.nan, -1, 0, 2**40, "text", b"", [], [[1.0, 2.0]], np.ones((3, 3))]))
            if kind == 2 and old.dtype.kind in "fiu" and old.size:
                value = np.ravel(old[()]) * rng.choice([-1, 0, 1e30, 2])
            del file["node"][name]
            file["node"][name] = value.astype("S") if value.dtype.kind == "U" else value


def same(a: nir.NIRGraph, b: nir.NIRGraph) -> bool:
    """Are two graphs the same network with the same numbers, to the last bit?"""

    def plain(value):
        if isinstance(value, dict):
            return {str(name): plain(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple, str, bytes)) or value is None:
            return str(value)
        array = np.asarray(value)
        return array.dtype.str, array.shape, array.tobytes()

    return plain(a.to_dict()) == plain(b.to_dict())


def outcome(path: Path, before: nir.NIRGraph) -> str:
    """What reading a file makes of it: one word."""
    began = time.monotonic()
    try:
        graph = read(path, timeout_s=PATIENCE_S)
        validated(graph)
    except ValueError as error:
        said = str(error)
        assert path.name in said or "node '" in said or "edge (" in said or "graph" in said, said
        word = "refused"
        for sign, name in (("come to an end", "refused, hangs HDF5"), ("crashes", "refused, crashes HDF5")):
            word = name if sign in said else word
    else:
        word = "equal" if same(graph, before) else "different"
    assert time.monotonic() - began < 30 * _guarded.WAIT, "it took too long"
    return word


def outcomes(writer: Callable, count: int, seed: int, edit: bool = False) -> Counter[str]:
    """How often each outcome came up in so many damaged files."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path, bad = Path(folder) / "model.nir", Path(folder) / "bad.nir"
        graphs = []
        for graph in networks():
            writer(str(path), graph)
            graphs.append((path.read_bytes(), read(path)))
        for k in range(count):
            rng = random.Random(seed + k)
            data, before = graphs[k % len(graphs)]
            bad.write_bytes(data if edit else damaged(data, rng))
            if edit:
                edited(bad, rng)
            found[outcome(bad, before)] += 1
    return found


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int((*sys.argv, "0")[2])
    for title, writer, edit in (
        ("spyx.nir.write", write, False),
        ("nir.write", nir.write, False),
        ("nir.write, edited", nir.write, True),
    ):
        print(title, dict(outcomes(writer, count, seed, edit)), flush=True)
