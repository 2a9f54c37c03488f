"""Lane programs by themselves: what is traced, what is dropped, what is folded, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from spyx.engine.kernels import pallas
from spyx.engine.kernels.lane_program import Unsupported, evaluate, select, trace
from spyx.engine.kernels.lane_source import Lines, write

LANES = (2, 3)
F32 = np.dtype(np.float32)


def several(a, b, c):
    return [a + 2 * b, jnp.tanh(b), jnp.where(c > 1, jnp.sin(a), 1.0)]


def arrays(seed=0):
    return [jnp.asarray(a) for a in np.random.default_rng(seed).normal(0, 2, (3, *LANES)).astype(np.float32)]


def test_a_program_is_its_function_and_so_is_every_part():
    program, values = trace(several, LANES, [F32] * 3), arrays()
    expected = several(*values)
    for got, wanted in zip(evaluate(program, values), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    for chosen in ([2, 0], [1], [1, 1]):
        part = select(program, chosen)
        for got, k in zip(evaluate(part, values), chosen, strict=True):
            np.testing.assert_allclose(got, expected[k], rtol=1e-6)


def test_a_part_needs_and_keeps_only_what_it_reads():
    program = trace(several, LANES, [F32] * 3)
    assert [select(program, [k]).needs() for k in range(3)] == [{0, 1}, {1}, {0, 2}]
    assert [len(select(program, [k]).statements) for k in range(3)] == [2, 1, 3]
    assert program.needs() == {0, 1, 2}
    dead = trace(lambda a, b: [jnp.exp(a) * b * 0 + a, b], LANES, [F32] * 2)
    assert len(select(dead, [1]).statements) == 0
    assert select(dead, [1]).outputs == (1,)


def test_nested_functions_and_constants_are_inlined():
    inner = jax.jit(lambda a, scale: jnp.square(a) * scale)

    def step(a, b):
        return [jax.nn.relu(inner(a, b)) + jnp.float32(2) * jnp.exp(jnp.float32(0)), jnp.zeros_like(a)]

    program, values = trace(step, LANES, [F32] * 2), arrays()[:2]
    for got, expected in zip(evaluate(program, values), step(*values), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert (got.shape, got.dtype) == (LANES, F32)
    assert "exp" not in {s.primitive.name for s in program.statements}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda a: [a[:, :1] + a], "primitive 'slice'"),
        (lambda a: [a.T], "primitive 'transpose'"),
        (lambda a: [a.reshape(-1)], r"primitive 'reshape' from shape \(2, 3\) to \(6,\)"),
        (lambda a: [jnp.float32(1)], r"an output of shape \(\) for lanes of shape \(2, 3\)"),
        (lambda a: [a + jnp.arange(3.0)[None]], "primitive 'iota'|an array constant"),
    ],
)
def test_what_mixes_lanes_is_refused_by_name(function, reason):
    with pytest.raises(Unsupported, match=reason):
        trace(function, LANES, [F32])


def test_what_is_written_reads_before_it_writes():
    """Two states that swap: every value is read before the first of them is overwritten."""
    program, body = trace(lambda x, v, u: [u + x, v], LANES, [F32] * 3), Lines()
    write(body, 0, program, ["x[i]", "v[i]", "u[i]"], ["v[i]", "u[i]"])
    scope = {"x": [1.0], "v": [2.0], "u": [5.0], "i": 0, "float32": np.float32}
    exec("\n".join(line.strip() for line in body.lines), scope)
    assert (scope["v"], scope["u"]) == ([6.0], [2.0])
    sums = Lines()
    write(sums, 0, program, ["x[i]", "v[i]", "u[i]"], ["v[i]"], ["q[i]"])
    scope = {"x": [1.0], "v": [2.0], "u": [5.0], "q": [10.0], "i": 0}
    exec("\n".join(line.strip() for line in sums.lines), scope)
    assert (scope["v"], scope["q"]) == ([6.0], [12.0])


@pytest.mark.parametrize(
    ("lanes", "starts"), [(200, [0, 72]), (128, [0]), (129, [0, 1]), (256, [0, 128]), (300, [0, 128, 172]), (3, [0, 1])]
)
def test_the_last_block_of_lanes_moves_back_until_it_fits(lanes, starts):
    """The interpreter clamps what reaches beyond the end, a GPU does not: the starts themselves are looked at."""
    block = pallas.block_size(lanes)

    def kernel(out):
        out[pl.program_id(0)] = jnp.int32(pallas._own_lanes(lanes).start)

    shape = jax.ShapeDtypeStruct((len(starts),), jnp.int32)
    got = pl.pallas_call(kernel, out_shape=shape, grid=(pl.cdiv(lanes, block),), interpret=True)()
    assert got.tolist() == starts
    assert max(starts) + block == lanes
