"""Other libraries that run NIR graphs, where they are installed, on a network that `spyx train` made."""

from __future__ import annotations

import numpy as np
import pytest

from reference.nir_graphs import DT, fields, graph_of

nir = pytest.importorskip("nir")
from spyx.nir import check, portable, read, simulate  # noqa: E402
from spyx.nir._libraries import installed  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The graph of a trained network, as `spyx nir convert` writes it."""
    if len(installed()) < 2:
        pytest.skip("fewer than two other executors of NIR are installed (snnTorch, Norse, Sinabs)")
    pytest.importorskip("typer")
    from cli.conftest import spyx

    folder = tmp_path_factory.mktemp("trained")
    made = spyx("train", "--epochs", 1, "--hidden", 16, "--output", folder / "run")
    assert made.exit_code == 0, made.stderr
    made = spyx("nir", "convert", folder / "run", folder / "model.nir", "--dt", 1e-4)
    assert made.exit_code == 0, made.stderr
    return read(folder / "model.nir")


WHOLE = {
    "portable, NIR's reset": (portable, {"reset": "nir"}, {"snnTorch", "Norse"}),
    "as written, NIR's reset": (lambda graph: graph, {"reset": "nir"}, {"snnTorch", "Sinabs"}),
    "as written, its own reset": (lambda graph: graph, {}, {"Sinabs"}),
    "as written, exponential": (lambda graph: graph, {"integration": "exponential"}, {"Sinabs"}),
}


@pytest.mark.parametrize("case", WHOLE)
def test_other_executors_agree_on_a_whole_trained_network(trained, case):
    """Weights, spikes and readout; docs/how-to/nir.md says who differs on which of these, and why."""
    change, choice, agree = WHOLE[case]
    found = check(change(trained), spike="post", **choice)
    assert found.difference is None
    verdicts = {one.executor: one.verdict for one in found.agreements}
    assert {verdicts[name] for name in agree.intersection(verdicts)} == {"agrees"}
    assert "agrees" not in {verdict for name, verdict in verdicts.items() if name not in agree}
    spikes = simulate(change(trained), np.ones((50, 64)), spike="post", **choice)["lif_1"]
    assert 0.01 < spikes.mean() < 0.99


def test_an_executor_that_fails_is_a_finding(monkeypatch):
    from spyx.nir import _libraries

    def late(graph, xs, meaning):
        answer = simulate(graph, xs, meaning.dt)["output"]
        return np.concatenate([np.zeros_like(answer[:1]), answer[:-1]])

    def broken(graph, xs, meaning):
        raise RuntimeError("no such node")

    table = {"Late": ("numpy", late), "Broken": ("numpy", broken), "Absent": ("no_such_package", broken)}
    monkeypatch.setattr(_libraries, "EXECUTORS", table)
    graph = graph_of(nir.LIF(**fields("LIF", np.random.default_rng(0))))
    found = {one.executor: one for one in check(graph, DT).agreements}
    assert found["Late"].verdict == "one step late"
    assert (found["Broken"].verdict, found["Broken"].detail) == ("refuses", "RuntimeError: no such node")
    assert set(found) == {"Late", "Broken"}
