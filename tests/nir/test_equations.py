"""Every neuron against an integrator of NIR's equations that knows nothing of spyx, in both directions."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import nir_oracle
from reference.nir_graphs import DT, UNITS, fields, graph_of, spikes
from spyx import nn
from spyx.testing import check_neuron

nir = pytest.importorskip("nir")
import spyx.nir as bridge  # noqa: E402

KINDS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF")
CLASSES = {kind: getattr(bridge, f"NIR{kind}") for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("integration", ["euler", "exponential"])
@pytest.mark.parametrize(("reset", "spike"), [("nir", "post"), ("zero", "pre"), ("subtract", "post")])
def test_import_computes_the_equations(kind, integration, reset, spike):
    p = fields(kind, np.random.default_rng(len(kind)))
    x = spikes(1)
    expected = nir_oracle.run(kind, x, DT, integration=integration, reset=reset, spike=spike, **p)
    choice = dict(integration=integration, reset=reset, spike=spike)
    graph = graph_of(getattr(nir, kind)(**p))
    got, _ = nn.run(bridge.from_nir(graph, DT, **choice), x[None])
    simulated = bridge.simulate(graph, x, DT, **choice)
    np.testing.assert_allclose(got[0], expected, atol=2e-5)
    np.testing.assert_allclose(simulated["n0"], expected, atol=1e-12)
    if "v_threshold" in p:
        assert 0 < expected.mean() < 1


@pytest.mark.parametrize("kind", ["LI", "CubaLIF"])
def test_exact_neurons_pass_the_conformance_suite(kind):
    p = {name: value.astype(np.float32) for name, value in fields(kind, np.random.default_rng(0)).items()}
    reset = "subtract" if kind == "CubaLIF" else "nir"
    check_neuron(CLASSES[kind](bridge.Meaning(DT, reset=reset), **p))


def own_layers():
    beta, alpha = jnp.linspace(0.3, 0.95, UNITS), jnp.linspace(0.2, 0.9, UNITS)
    threshold = jnp.linspace(0.4, 1.2, UNITS)
    return {
        "IF": nn.IF(UNITS, threshold=threshold),
        "LIF": nn.LIF(UNITS, beta=beta, threshold=threshold),
        "CubaLIF": nn.CuBaLIF(UNITS, alpha=alpha, beta=beta, threshold=threshold),
        "LI": nn.LI(UNITS, beta=beta),
    }


@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF", "LI"])
def test_an_exported_neuron_spikes_as_ours_in_an_independent_integrator(kind):
    layer = own_layers()[kind]
    x = np.random.default_rng(3).normal(0.3, 0.6, (60, UNITS)).astype(np.float32)
    ours = np.asarray(nn.run(layer, x[None])[0][0])
    graph = bridge.to_nir(layer, DT)
    (node,) = [n for n in graph.nodes.values() if not isinstance(n, (nir.Input, nir.Output))]
    assert type(node).__name__ == kind
    p = {name: value for name, value in vars(node).items() if isinstance(value, np.ndarray)}
    after = kind == "LIF"
    post = nir_oracle.run(kind, x, DT, reset="subtract", spike="post", after_leak=after, **p)
    pre = nir_oracle.run(kind, x, DT, reset="subtract", spike="pre", after_leak=after, **p)
    if kind == "LI":
        np.testing.assert_allclose(ours, post, atol=1e-5)
    else:
        np.testing.assert_array_equal(ours, pre)
        np.testing.assert_array_equal(ours[1:], post[:-1])  # one step of latency, and nothing else
        assert ours.mean() > 0.05


@pytest.mark.parametrize(("name", "kind"), [("RIF", "IF"), ("RLIF", "LIF"), ("RCuBaLIF", "CubaLIF")])
def test_an_exported_recurrent_layer_spikes_as_ours_in_an_independent_integrator(name, kind):
    own = own_layers()[kind]
    decays = {word: getattr(own, word)[...] for word in ("alpha", "beta") if hasattr(own, word)}
    start = dict(recurrent_init=nnx.initializers.normal(0.8), rngs=nnx.Rngs(0))
    layer = getattr(nn, name)(UNITS, threshold=jnp.linspace(0.4, 1.2, UNITS), **decays, **start)
    x = np.random.default_rng(3).normal(0.3, 0.6, (60, UNITS)).astype(np.float32)
    ours = np.asarray(nn.run(layer, x[None])[0][0])
    nodes = bridge.to_nir(layer, DT).nodes
    core, back = nodes[f"{name.lower()}_0"], nodes[f"{name.lower()}_0.w_rec"]
    assert type(core).__name__ == kind
    p = {word: value for word, value in vars(core).items() if isinstance(value, np.ndarray)}
    choice = dict(reset="subtract", spike="pre", after_leak=kind == "LIF")
    np.testing.assert_array_equal(ours, nir_oracle.run(kind, x, DT, weight=back.weight, **choice, **p))
    assert (ours != nir_oracle.run(kind, x, DT, **choice, **p)).any()


def test_NIR_gain_is_one_and_a_layer_that_never_leaks_is_an_IF():
    graph = bridge.to_nir(nn.Sequential(nn.LIF(2, beta=0.75), nn.LIF(2, beta=1.0), nn.CuBaLIF(2, 0.5, 0.75)), DT)
    lif, free, cuba = (graph.nodes[n] for n in ("lif_0", "lif_1", "cubalif_2"))
    np.testing.assert_allclose(lif.r * DT / lif.tau, 1.0)
    np.testing.assert_allclose(lif.r, 4.0)
    assert isinstance(free, nir.IF)
    np.testing.assert_allclose(free.r * DT, 1.0)
    np.testing.assert_allclose(cuba.w_in, 2.0)
    assert {graph.metadata[key] for key in ("integration", "reset", "spike")} == {"euler", "subtract", "pre"}
    assert graph.metadata["dt"] == DT


def test_NIR_cannot_say_everything_and_one_error_lists_it():
    rngs = nnx.Rngs(0)
    model = nn.Sequential(nn.ALIF(3, rngs=rngs), jnp.tanh, nn.RLIF((2, 2), beta=0.5, rngs=rngs), nn.LIF(3, beta=0.5))
    with pytest.raises(ValueError, match=r"(?s)alif_0.*ALIF.*tanh_1"):
        bridge.to_nir(model, DT)
    with pytest.raises(ValueError, match=r"rlif_0.*recurrent over 2 axes"):
        bridge.to_nir(nn.Sequential(nn.RLIF((2, 2), beta=0.5, rngs=rngs)), DT)
    with pytest.raises(ValueError, match="threshold below 0"):
        bridge.to_nir(nn.Sequential(nn.LIF(2, beta=0.5, threshold=-1.0)), DT)


@pytest.mark.parametrize(
    ("choice", "word"),
    [({"integration": "rk4"}, "integration"), ({"reset": "soft"}, "reset"), ({"spike": "now"}, "spike")],
)
def test_unknown_choices_are_refused(choice, word):
    with pytest.raises(ValueError, match=rf"spyx.nir\({word}=\): expected one of"):
        bridge.from_nir(graph_of(nir.I(np.ones(UNITS))), DT, **choice)


def test_time_constants_train():
    p = fields("LIF", np.random.default_rng(0))
    model = bridge.from_nir(graph_of(nir.LIF(**p)), DT)
    x = spikes(2)[None]
    slope = nnx.grad(lambda m: jnp.mean(nn.run(m, x)[0]))(model)
    assert float(jnp.abs(slope["nodes"]["n0"]["tau"][...]).max()) > 0
