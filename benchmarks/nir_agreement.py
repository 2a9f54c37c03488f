"""Who runs a NIR graph as we do: one line per graph, the verdict of every installed library, as a Markdown table.

    python -m benchmarks.nir_agreement [--shared FOLDER]

FOLDER holds `data/nir_paper`, the graphs of Pedersen et al. 2024; without it their lines are left out. Needs PyTorch
and at least one of snnTorch, Norse and Sinabs; nothing is timed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import nir
from spyx.nir import check, portable, read
from spyx.nir._libraries import installed

STEPS, UNITS, DT = 200, 4, 1e-4
NIR = dict(spike="post", reset="nir")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path)
    names = installed()
    print(f"| graph | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    with tempfile.TemporaryDirectory() as folder:
        for title, graph, dt, choice in cases(Path(folder), parser.parse_args().shared):
            found = check(graph, dt, steps=STEPS, **choice)
            assert found.difference is None, title
            said = {one.executor: f"{one.verdict}: {one.detail}" for one in found.agreements}
            print(f"| {title} | {' | '.join(said[name] for name in names)} |", flush=True)


def cases(folder: Path, shared: Path | None) -> Iterator[tuple[str, Any, float, dict[str, str]]]:
    """Title, graph, time step and meaning."""
    own = trained(folder)
    yield "trained by `spyx train`, whole, `portable`", portable(own), DT, NIR
    yield "the same as written, NIR's reset", own, DT, NIR
    yield "the same as written, its own reset, Euler", own, DT, {"spike": "post"}
    yield "the same as written, its own reset, exponential", own, DT, {"spike": "post", "integration": "exponential"}
    yield "LIF, r = 1", one("LIF"), DT, NIR
    yield "LIF, r = 1, dt 1e-3", one("LIF", tau=0.02), 1e-3, NIR
    yield "LIF, r = 5", one("LIF", r=5.0), DT, NIR
    yield "LIF, r = tau/dt", one("LIF", r=20.0, v_threshold=2.5), DT, NIR
    yield "LIF, v_leak not 0", one("LIF", v_leak=0.1), DT, NIR
    yield "LIF, v_reset not 0", one("LIF", v_reset=-0.1), DT, NIR
    yield "LIF, unequal taus", one("LIF", tau=np.array([1e-3, 2e-3, 3e-3, 4e-3])), DT, NIR
    yield "IF, r = 1/dt", one("IF", r=1 / DT, v_threshold=2.5), DT, NIR
    yield "CubaLIF, r = w_in = 1", one("CubaLIF"), DT, NIR
    if shared is not None:
        paper = shared / "data" / "nir_paper"
        yield "the LIF of the NIR paper", paper / "01_lif" / "lif_norse.nir", DT, NIR
        yield "recurrent Braille, no bias", paper / "03_rnn" / "braille_noDelay_noBias_subtract.nir", DT, NIR
        yield "recurrent Braille, bias", paper / "03_rnn" / "braille_noDelay_bias_zero.nir", DT, NIR
        yield "convolutional N-MNIST", paper / "02_cnn" / "cnn_sinabs.nir", 1.0, {"spike": "post", "reset": "subtract"}


def trained(folder: Path) -> Any:
    """What `spyx train` and `spyx nir convert` make."""
    command = [sys.executable, "-c", "from spyx.cli import main; main()"]
    train = ["train", "--epochs", "1", "--hidden", "16", "--output", str(folder / "run")]
    convert = ["nir", "convert", str(folder / "run"), str(folder / "model.nir"), "--dt", str(DT)]
    for arguments in (train, convert):
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)
    return read(folder / "model.nir")


def one(kind: str, **change: Any) -> Any:
    """One neuron node behind an identity, parameters as in `change`."""
    known = {"tau": 2e-3, "tau_mem": 2e-3, "tau_syn": 1e-3, "r": 1.0, "v_leak": 0.0, "v_reset": 0.0, "w_in": 1.0}
    known |= {"v_threshold": 0.02 if kind == "CubaLIF" else 0.1, **change}
    names = {"IF": ("r",), "LIF": ("tau", "r", "v_leak"), "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "w_in")}
    fields = {name: np.full(UNITS, known[name]) for name in (*names[kind], "v_threshold", "v_reset")}
    ends = {"input": nir.Input({"input": np.array([UNITS])}), "output": nir.Output({"output": np.array([UNITS])})}
    nodes = {**ends, "eye": nir.Affine(np.eye(UNITS), np.zeros(UNITS)), "neuron": getattr(nir, kind)(**fields)}
    edges = [("input", "eye"), ("eye", "neuron"), ("neuron", "output")]
    return nir.NIRGraph(nodes, edges, type_check=False)


if __name__ == "__main__":
    main()
