"""`check`, quantised export, the hardware report, other executors and the command line."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference.nir_graphs import DT, UNITS, fields, graph_of
from spyx import nn

nir = pytest.importorskip("nir")
from spyx.nir import NIRLIF, TARGETS, Target, check, from_nir, portable, quantise, read, report, simulate, to_nir  # noqa: E402
from spyx.nir._check import first_difference  # noqa: E402


def network(units: int = UNITS) -> nn.Sequential:
    rngs = nnx.Rngs(0)
    hidden = nnx.Linear(3, units, rngs=rngs), nn.LIF(units, beta=0.9, threshold=0.5)
    return nn.Sequential(*hidden, nnx.Linear(units, 2, rngs=rngs), nn.LI(2, beta=0.8))


def test_check_finds_the_first_step_and_node_that_differ():
    found = check(to_nir(network(), DT), others=False)
    assert found.difference is None
    assert found.compared == 5
    rows = {name: (kind, shape) for name, kind, shape, _ in found.table}
    assert rows["linear_0"] == ("Affine", "3 → 4")
    expected = {"a": np.zeros((5, 2)), "b": np.zeros((5, 2))}
    got = {name: value.copy() for name, value in expected.items()}
    got["a"][3, 1] = 1.0
    got["b"][2, 0] = 1.0
    parting = first_difference(expected, got)
    assert (parting.node, parting.step, parting.expected, parting.got) == ("b", 2, 0.0, 1.0)


def test_check_sees_a_wrong_execution(monkeypatch):
    """A neuron that loses its leak is found, with its name."""
    derive = NIRLIF.derive
    monkeypatch.setattr(NIRLIF, "derive", staticmethod(lambda p: {**derive(p), "leak": 0.0 * p.tau}))
    found = check(graph_of(nir.LIF(**fields("LIF", np.random.default_rng(0)))), DT, others=False)
    assert found.difference.node == "n0"


@pytest.mark.parametrize(("precision", "steps"), [("int4", 2**4), ("int8", 2**8)])
def test_decays_on_a_grid_keep_the_gain(precision, steps):
    graph = quantise(to_nir(nn.Sequential(nn.CuBaLIF(3, alpha=0.3, beta=0.9)), DT), decays=precision)
    node = graph.nodes["cubalif_0"]
    for tau, gain in ((node.tau_mem, node.r), (node.tau_syn, node.w_in)):
        decay = 1 - DT / tau
        np.testing.assert_allclose(decay * steps, np.round(decay * steps), atol=1e-9)
        np.testing.assert_allclose(DT / tau * gain, 1.0)
    assert graph.metadata["decays_precision"] == precision
    assert check(graph, others=False).difference is None


def test_weights_on_a_grid():
    graph = to_nir(network(), DT)
    eight = quantise(graph, weights="int8").nodes["linear_0"].weight
    step = np.abs(graph.nodes["linear_0"].weight).max() / 127
    np.testing.assert_allclose(eight / step, np.round(eight / step), atol=1e-3)
    assert np.abs(eight - graph.nodes["linear_0"].weight).max() <= step / 2 + 1e-7
    half = quantise(graph, weights="float16").nodes["linear_0"].weight
    np.testing.assert_array_equal(half, half.astype(np.float16).astype(half.dtype))
    with pytest.raises(
        ValueError, match=r"spyx.nir.quantise\(weights=\): expected float16, bfloat16, or int2 to int16"
    ):
        quantise(graph, weights="int99")
    with pytest.raises(ValueError, match=r"spyx.nir.quantise\(dt=\): expected a time step"):
        quantise(graph_of(nir.Scale(np.ones(UNITS))), decays="int8")


def test_the_report_says_what_a_chip_cannot_hold():
    p = fields("LIF", np.random.default_rng(0))
    graph = graph_of(nir.LIF(**p), nir.Delay(np.full(UNITS, DT)))
    lines = "\n".join(report(graph, "loihi2"))
    for word in ("n0: loihi2 holds v_leak at 0", "one tau for all units", "one v_threshold"):
        assert word in lines
    assert "n1: speck has no Delay" in report(graph, "speck")
    ring = to_nir(nn.Sequential(nn.RIF(2, rngs=nnx.Rngs(0))), DT)
    assert "the graph: speck has no recurrence" in report(ring, "speck")
    assert report(graph, Target("mine", ("LIF", "Delay"), v_leak=True, v_reset=True, unequal_tau=True,
                                unequal_threshold=True)) == []  # fmt: skip
    ours = quantise(to_nir(nn.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nn.IF(2)), DT), weights="int8")
    assert report(ours, "speck") == []
    assert all(target.source for target in TARGETS.values())
    with pytest.raises(ValueError, match=r"spyx.nir.report\(target=\): expected a Target, or one of"):
        report(graph, "abacus")
    assert all(name == target.name for name, target in TARGETS.items())


def test_the_report_knows_sizes_and_bit_shifts():
    rngs = nnx.Rngs(0)
    dense = to_nir(nn.Sequential(nnx.Linear(20, 9, rngs=rngs), nn.LIF(9, beta=0.8)), DT)
    lines = "\n".join(report(quantise(dense, weights="int8"), "xylo"))
    for word in ("tau is a power of two times dt", "xylo has 16 inputs, here 20", "xylo has 8 outputs, here 9"):
        assert word in lines
    shifted = to_nir(nn.Sequential(nnx.Linear(3, 4, use_bias=False, rngs=rngs), nn.LIF(4, beta=0.75)), DT)
    assert report(quantise(shifted, weights="int8"), "xylo") == []
    dense.nodes["linear_0"].bias = np.ones(9)
    assert "linear_0: xylo has no bias" in report(dense, "xylo")
    maps = nn.Sequential(nn.Conv(2, 3, (3, 2), rngs=rngs), nn.IF((9, 9, 3)), nn.SumPool(3, 3, "VALID"))
    lines = "\n".join(report(quantise(to_nir(maps, DT, input_shape=(9, 9, 2)), weights="int8"), "speck"))
    assert "conv_0: speck has square kernels up to 16, here 3x2" in lines
    assert "sumpool_2: speck pools squares of 1, 2, 4, here 3x3" in lines


def test_gains_move_into_the_weights():
    rngs = nnx.Rngs(0)
    net = nn.Sequential(nnx.Linear(3, 4, rngs=rngs), nn.RLIF(4, beta=0.75, threshold=0.5, rngs=rngs))
    before = to_nir(nn.Sequential(*net.layers, nnx.Linear(4, 2, rngs=rngs), nn.LI(2, beta=0.5)), DT)
    after = portable(before)
    assert all(np.all(node.r == 1) for node in after.nodes.values() if hasattr(node, "r"))
    x = (np.random.default_rng(0).random((30, 3)) < 0.5).astype(np.float32)
    np.testing.assert_allclose(simulate(after, x)["output"], simulate(before, x)["output"], atol=1e-5)
    assert check(after, others=False).difference is None
    alone = to_nir(nn.Sequential(nn.LIF(3, beta=0.5)), DT)
    np.testing.assert_array_equal(portable(alone).nodes["lif_0"].r, alone.nodes["lif_0"].r)


def test_the_command_line(tmp_path):
    pytest.importorskip("typer")
    from cli.conftest import spyx
    from spyx.cli.config import make_config
    from spyx.cli.make_network import make_network
    from spyx.cli.runs import save_weights

    run, path = tmp_path / "run", tmp_path / "model.nir"
    run.mkdir()
    (run / "config.toml").write_text('hidden = [5]\nneuron = "RLIF"\n')
    model = make_network(make_config(run / "config.toml", {}), 64, 10)
    save_weights(run, model)
    made = spyx("nir", "convert", run, path, "--dt", 1e-3)
    assert made.exit_code == 0, made.stderr
    x = (np.random.default_rng(0).random((2, 9, 64)) < 0.3).astype(np.float32)
    np.testing.assert_array_equal(nn.run(from_nir(path), x)[0], nn.run(model, jnp.asarray(x))[0])
    seen = spyx("nir", "check", path, "--steps", 9, "--target", "xylo")
    assert seen.exit_code == 0, seen.stdout
    assert "spyx agrees with the reference" in seen.stdout
    np.save(tmp_path / "x.npy", x)
    ran = spyx("nir", "run", path, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert ran.exit_code == 0, ran.stderr
    out = nn.run(model, jnp.asarray(x))[0]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), out)
    assert f"(2, 9, 10), sum {float(out.sum()):g}" in ran.stdout
    for dtype in (np.float32, np.float16, np.float64):
        spoiled = x.astype(dtype)
        spoiled[1, 3, 5] = spoiled[0, 0, 0] = np.nan
        np.save(tmp_path / f"nan_{np.dtype(dtype)}.npy", spoiled)
    nan = "nan_{}.npy: expected numbers; got NaN in 2 of 1152 values."
    for wrong, message in (
        *(
            (["run", path, "--input", tmp_path / f"nan_{d}.npy"], nan.format(d))
            for d in ("float32", "float16", "float64")
        ),
        (["run", path, "--input", tmp_path / "no.npy"], "--input: expected a file"),
        (["run", path, "--input", path], "--input: expected an array in a .npy file"),
        (
            ["run", path, "--input", tmp_path / "x.npy", "--output", tmp_path / "no" / "y.npy"],
            "--output: expected a folder",
        ),
        (["convert", run, tmp_path / "no" / "model.nir"], "model.nir: expected a folder that exists"),
        (["check", path, "--reset", "soft"], "expected one of nir, subtract, zero; got 'soft'"),
        (["check", tmp_path / "no.nir"], "no.nir: expected a file"),
    ):
        failed = spyx("nir", *wrong)
        assert failed.exit_code == 2
        assert message in failed.stderr
    made = spyx("nir", "convert", run, tmp_path / "portable.nir", "--portable")
    assert made.exit_code == 0, made.stderr
    assert np.all(read(tmp_path / "portable.nir").nodes["rlif_1"].r == 1)
    path.write_bytes(b"nothing")
    failed = spyx("nir", "check", path)
    assert failed.exit_code == 2
    assert "expected an HDF5 file with a NIR graph" in failed.stderr
