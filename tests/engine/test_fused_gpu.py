"""The GPU's kernels without a GPU: interpreted against the plain loop, and lowered for CUDA through Triton."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.engine import every_primitive

from spyx import engine, nn
from spyx.engine import device
from spyx.engine.kernels import pallas, plain_loops
from spyx.engine.kernels.spec import spec_of

# jax 0.12 announces that Pallas will hand Triton over to a package of its own; jax is pinned below 0.13.
pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")

LOCAL = [
    name
    for name in nn.__all__
    if isinstance(getattr(nn, name), type)
    and issubclass(getattr(nn, name), nn.Neuron)
    and getattr(nn, name).local
    and name not in ("Neuron", "Refractory")  # the base, and a wrapper of another one
]


def build(name, shape):
    return getattr(nn, name)(shape) if name in ("IF", "LI") else getattr(nn, name)(shape, rngs=nnx.Rngs(0))


def flat_problem(neuron, steps, lanes, io=jnp.float32):
    """Random arrays of every shape that the two kernels take."""
    xs, s0 = jnp.ones((steps, *lanes), io), neuron.initial_state(lanes[0])
    spec = spec_of(neuron.step, neuron.params().astype(jnp.float32), xs, s0)
    spec = replace(spec, chunk=4)  # a chunk is unrolled, and the interpreter is slow
    n = int(np.prod(lanes))
    keys = iter(jax.random.split(jax.random.key(0), 20))

    def draw(count, *shape, dtype=jnp.float32):
        return [jax.random.uniform(next(keys), (*shape, n), jnp.float32, -1, 1.5).astype(dtype) for _ in range(count)]

    marks = -(-steps // spec.chunk)
    forward = (draw(spec.n_x, steps, dtype=io), draw(spec.n_p), draw(spec.n_s))
    backward = (*forward[:2], draw(spec.n_s, marks), draw(spec.n_y, steps, dtype=io), draw(spec.n_s))
    return spec, forward, backward


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = (np.asarray(v, np.float32) for v in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * (1 + np.abs(b).max()))


# 5 x 40 = 200 lanes: two blocks that overlap; 11 steps: two chunks and a rest.
@pytest.mark.parametrize(
    ("name", "steps", "lanes", "io"),
    [
        ("LIF", 11, (5, 40), jnp.float32),
        ("CuBaLIF", 4, (1, 3), jnp.float32),
        ("ALIF", 3, (2, 4), jnp.bfloat16),
    ],
)
def test_interpreted_kernels_equal_the_loop(name, steps, lanes, io):
    spec, forward, backward = flat_problem(build(name, lanes[1:]), steps, lanes, io)
    assert_same(pallas.forward(spec, *forward, interpret=True), plain_loops.forward(spec, *forward))
    assert_same(pallas.backward(spec, *backward, interpret=True), plain_loops.backward(spec, *backward))


def test_block_sizes_are_powers_of_two_that_fit():
    assert [pallas.block_size(n) for n in (1, 2, 3, 127, 128, 10_000)] == [1, 2, 2, 64, 128, 128]


@contextlib.contextmanager
def as_if_on_a_gpu():
    """jax >= 0.11 asks the mesh which device it lowers for."""
    from jax import sharding

    if not hasattr(sharding, "AbstractDevice"):
        yield
        return
    device = sharding.AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    with sharding.use_abstract_mesh(sharding.AbstractMesh((), (), abstract_device=device)):
        yield


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("io", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_lowers_for_cuda_forward_and_backward(name, io):
    neuron = build(name, (300,))
    xs, s0, p = jnp.ones((20, 2, 300), io), neuron.initial_state(2), neuron.params()

    def gradients(p, xs, s0):
        return jax.grad(lambda *a: engine.MODES["fused"](neuron.step, *a)[0].astype(jnp.float32).sum(), (0, 1, 2))(
            p, xs, s0
        )

    with as_if_on_a_gpu():
        text = jax.jit(gradients).trace(p, xs, s0).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("triton") >= 2
    kernel = f"spyx_{spec_of(neuron.step, p.astype(jnp.float32), xs, s0).name}"  # of the class that wrote the step
    assert f"{kernel}_forward" in text
    assert f"{kernel}_backward" in text


def test_every_primitive_of_the_table_lowers_for_cuda():
    def gradient(xs, s0):
        p = engine.Params({}, {})
        return jax.grad(lambda xs, s0: engine.MODES["fused"](every_primitive.step, p, xs, s0)[0].sum(), (0, 1))(xs, s0)

    with as_if_on_a_gpu():
        text = (
            jax.jit(gradient).trace(jnp.ones((2, 1, 4)), jnp.ones((1, 4))).lower(lowering_platforms=("cuda",)).as_text()
        )
    assert text.count("triton") >= 2


@pytest.mark.skipif(not device.has_compiler(), reason="needs llvmlite: pip install 'spyx-jax[cpu]'")
def test_one_trace_runs_here_and_lowers_for_cuda():
    neuron = nn.LIF(8, beta=0.9)
    with as_if_on_a_gpu():
        traced = jax.jit(lambda x: nn.run(neuron, x, mode="fused")[0]).trace(jnp.ones((2, 5, 8)))
        assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()
    assert traced.lower().compile()(jnp.ones((2, 5, 8))).shape == (2, 5, 8)
