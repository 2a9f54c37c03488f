"""`explain` says what runs: its mode is compared with the primitives of the traced run, which is never run."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from differential.neurons import SUBJECTS
from differential.program import equations, ran, ran_backward
from spyx import nn
from spyx.engine import device

SMALL, LARGE = (2, 7), (64, 512)
MODES = ("auto", "layer", "step", "parallel", "fixed_point", "fused")
THREE = ("LIF", "RALIF", "Recurrent-masked", "Refractory")
"""Enough for what does not depend on the step."""


def _split(layer):
    graphdef, weights, rest = nnx.split(layer, nnx.Param, ...)
    return weights, lambda weights: nnx.merge(graphdef, weights, rest, copy=True)


def traced(layer, x, mode, *, grad, state=None, **options):
    """The jaxpr of a run, or of its gradient by the parameters and the input."""
    weights, merge = _split(layer)

    def run(weights, x):
        return nn.run(merge(weights), x, state, mode=mode, **options)

    def loss(weights, x):
        outs, end = run(weights, x)
        floats = [a for a in jax.tree.leaves((outs, end)) if jnp.issubdtype(a.dtype, jnp.floating)]
        return sum(jnp.sum(a.astype(jnp.float32)) for a in floats)

    return jax.make_jaxpr(jax.grad(loss, (0, 1)) if grad else run)(weights, x).jaxpr


def explained(layer, x, mode, *, grad, state=None):
    """The modes in the plan, or None where it refuses."""
    try:
        return [plan.mode for plan in nn.explain(layer, jnp.zeros(x.shape, x.dtype), state, mode=mode, grad=grad)]
    except ValueError as error:
        if "expected a neuron that can run so" not in str(error):
            raise
        return None


def compare(layer, x, mode, *, grad, state=None):
    """`explain` and the trace agree; returns the mode."""
    said = explained(layer, x, mode, grad=grad, state=state)
    if said is None:
        with pytest.raises(ValueError, match="expected a neuron that can run so"):
            traced(layer, x, mode, grad=grad, state=state)
        return None
    (said,) = said
    found = (ran_backward if grad else ran)(traced(layer, x, mode, grad=grad, state=state))
    assert found == ("layer" if said == "step" else said), f"{mode}, grad={grad}: explain says {said}, {found} runs"
    by_itself = not isinstance(layer, nn.Neuron)  # in its own way, whatever is asked for
    assert mode == "auto" or said == mode or by_itself, f"{mode} was asked for, and {said} runs without an error"
    return said


AT_ONCE = ("SlidingPSN", "ChannelPSN")
"""Layers without a loop, which run as they are in every mode but "step"."""


@pytest.fixture
def one_cpu(monkeypatch):
    monkeypatch.setattr(device, "one_cpu", lambda: True)


@pytest.mark.parametrize("name", SUBJECTS)
def test_explain_is_what_runs(name, one_cpu):
    """Also: the list says of every subject in which modes it runs, so that no mode is lost unnoticed."""
    subject = SUBJECTS[name]
    layer = subject.build()
    granted = {"auto"}
    for mode in MODES:
        if mode == "auto":
            continue
        if compare(layer, _x(layer, SMALL), mode, grad=False) == mode:
            granted.add(mode)
    if name in AT_ONCE:
        granted.add("layer")
    assert granted == subject.modes
    for grad in (False, True):
        modes = {size: compare(layer, _x(layer, size), "auto", grad=grad) for size in (SMALL, LARGE)}
        if name in AT_ONCE:
            continue
        assert modes[SMALL] == "layer"
        assert modes[LARGE] == ("fused" if "fused" in subject.modes else "layer")


@pytest.mark.parametrize("name", THREE)
@pytest.mark.parametrize("dtypes", ["float64,float64", "float32,bfloat16", "bfloat16,bfloat16", "float32,uint8"])
def test_explain_is_what_runs_for_other_dtypes(name, dtypes, one_cpu):
    state_dtype, input_dtype = dtypes.split(",")
    with jax.enable_x64("float64" in dtypes):
        layer = SUBJECTS[name].build()
        state = layer.initial_state(LARGE[0], jnp.dtype(state_dtype))
        x = jax.ShapeDtypeStruct((*LARGE, *layer.hidden_shape), input_dtype)
        for mode in ("auto", "fused", "fixed_point"):
            compare(layer, x, mode, grad=False, state=state)
        if input_dtype != "uint8":
            compare(layer, x, "auto", grad=True, state=state)


@pytest.mark.parametrize("name", THREE)
@pytest.mark.parametrize("grad", [False, True])
def test_without_the_compiler_the_loop_runs(name, grad, one_cpu, monkeypatch):
    monkeypatch.setattr(device, "has_compiler", lambda: False)
    layer = SUBJECTS[name].build()
    assert compare(layer, _x(layer, LARGE), "auto", grad=grad) == "layer"
    assert compare(layer, _x(layer, LARGE), "fused", grad=grad) is None
    if "fused" in SUBJECTS[name].modes:
        assert "llvmlite" in nn.explain(layer, jnp.zeros((*LARGE, *layer.hidden_shape)))[0].why


@pytest.mark.parametrize("name", ["LIF", "RALIF"])
def test_over_several_devices_no_kernel_is_chosen(name, monkeypatch):
    monkeypatch.setattr(device, "one_cpu", lambda: False)
    layer = SUBJECTS[name].build()
    assert compare(layer, _x(layer, LARGE), "auto", grad=True) == "layer"


@pytest.mark.parametrize("mode", ["auto", "layer", "fused"])
@pytest.mark.parametrize("options", [{"chunk": 3}, {"remat": True}, {"chunk": 3, "truncate": True}])
def test_a_cut_of_time_changes_no_mode(mode, options, one_cpu):
    layer = SUBJECTS["LIF"].build()
    for grad in (False, True):
        jaxpr = traced(layer, _x(layer, SMALL), mode, grad=grad, **options)
        loops = [e for e, inside in equations(jaxpr) if e.primitive.name == "scan" and "cond" not in inside]
        assert loops  # over the chunks
        assert (ran(jaxpr) == "fused") == (mode == "fused")


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("mode", ["auto", "layer", "step", "fused", "parallel", "fixed_point"])
def test_every_layer_of_a_network_is_explained(mode, grad, one_cpu):
    """In a chain the loops are counted: one per neuron, or one with the products inside it."""
    net = nn.Sequential(
        nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nn.LIF(3, beta=0.8), nnx.Linear(3, 3, rngs=nnx.Rngs(1)), nn.LI(3)
    )
    x = jax.ShapeDtypeStruct((*SMALL, 4), jnp.float32)
    said = explained(net, x, mode, grad=grad)
    found = list(equations(traced(net, x, mode, grad=False)))
    loops = sum(e.primitive.name == "scan" and "cond" not in inside for e, inside in found)
    kernels = sum(e.primitive.name == "spyx_kernel_forward" for e, _ in found)
    rounds = sum(e.primitive.name == "while" for e, _ in found)
    if mode == "step":
        assert said == ["step"]
        assert loops == 1
        assert all("scan" in inside for e, inside in found if e.primitive.name == "dot_general")
        return
    assert not any("scan" in inside for e, inside in found if e.primitive.name == "dot_general")
    counts = {"layer": loops, "fused": kernels, "fixed_point": rounds}
    neurons = [said[1], said[3]]
    assert {m: neurons.count(m) for m in counts} == counts
    assert neurons.count("parallel") == (mode == "parallel")
    if grad:
        ran_backward(traced(net, x, mode, grad=True))


def test_explain_of_a_gradient_with_time_cut(monkeypatch, one_cpu):
    """Chunks that `auto` chooses: the trace has a loop more for them, and the plan says so."""
    monkeypatch.setattr(device, "CACHE_BYTES", 48)
    layer = SUBJECTS["LIF"].build()
    x = _x(layer, SMALL)
    for grad in (False, True):
        found = nn.explain(layer, jnp.zeros(x.shape), grad=grad)
        assert found.time
        jaxpr = traced(layer, x, "auto", grad=grad)
        nested = [e for e, inside in equations(jaxpr) if e.primitive.name == "scan" and "scan" in inside]
        assert nested
        assert found[0].shape[0] < SMALL[1]
        assert found[0].mode == "layer"


def _x(layer, size):
    with contextlib.suppress(AttributeError):
        return jax.ShapeDtypeStruct((*size, *layer.hidden_shape), np.float32)
    raise AssertionError("a layer without hidden_shape")
