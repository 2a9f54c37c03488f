"""What is compiled for a class is dropped when the class is defined again, and only then."""

from __future__ import annotations

import gc

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from spyx import nn
from spyx.axn import superspike
from spyx.engine import jit_cache

X = jnp.ones((2, 6, 3))


def cell(gain: float, own_class: bool = False) -> type[nn.Neuron]:
    class Cell(nn.Neuron):
        state = dict(v=0.0)
        affine = "given_spikes"
        beta = nn.decay(default=0.9)

        @staticmethod
        def step(p, x, v):
            assert not own_class or Cell is not None  # the function holds its class
            z = p.spike(v - 1.0)
            return z, p.beta * v + x * gain - z

    return Cell


def executables() -> int:
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


RUNS = {
    "run": lambda net: nn.run(net, X),
    "gradient": lambda net: nnx.grad(lambda net: nn.run(net, X)[0].sum())(net),
    "kernels": lambda net: nn.run(net, X, mode="fused"),
    "fixed_point": lambda net: nn.run(net, X, mode="fixed_point"),
    "chunks": lambda net: nnx.grad(lambda net: nn.run(net, X, chunk=3)[0].sum())(net),
    "stream": lambda net: list(nn.stream(net, [X])),
}


@pytest.mark.parametrize("how", RUNS)
def test_memory_of_a_class_that_is_defined_again_is_given_back(how, monkeypatch):
    monkeypatch.setattr(jit_cache, "KEPT", 1)
    counts = []
    for i in range(4):
        RUNS[how](nn.Sequential(cell(1.0 + i, own_class=how == "run")(3)))
        counts.append(executables())
    assert counts[1] == counts[2] == counts[3], counts


def test_a_surrogate_that_is_defined_again_is_dropped(monkeypatch):
    monkeypatch.setattr(jit_cache, "KEPT", 1)
    counts = []
    for _ in range(4):
        nn.run(nn.LIF(3, beta=0.9, activation=lambda v: superspike()(v)), X)
        counts.append(executables())
    assert counts[1] == counts[2] == counts[3], counts


def test_a_second_run_of_one_class_compiles_nothing():
    net = nn.Sequential(cell(2.0)(3))
    nn.run(net, X)
    before = executables()
    nn.run(net, X)
    nn.run(nn.Sequential(type(net.layers[0])(3)), X)
    assert executables() == before


def function(n: int):
    def f():
        return n

    return f


def test_the_last_definitions_of_a_name_are_kept():
    kept = jit_cache.Generations()
    made = [function(n) for n in range(20)]
    found = [kept.of((f,)) for f in made]
    assert [kept.of((f,)) is own for f, own in zip(made[-4:], found[-4:], strict=True)] == [True] * 4
    assert len(kept._live) == jit_cache.KEPT


def test_classes_of_one_name_that_are_used_in_turn_are_all_kept():
    kept = jit_cache.Generations()
    made = [function(n) for n in range(20)]
    for _ in range(3):
        found = [kept.of((f,)) for f in made]
    assert all(kept.of((f,)) is own for f, own in zip(made, found, strict=True))


def test_names_are_bounded(monkeypatch):
    monkeypatch.setattr(jit_cache, "NAMES", 8)
    kept = jit_cache.Generations()
    made = [type(f"Numbered{n}", (), {}) for n in range(20)]
    for cls in made:
        kept.of((cls,))
    assert len(kept._live) == len(kept._names) == 8


def test_functions_and_classes_are_found_in_static_arguments():
    f, own = function(0), cell(1.0)
    tree = jax.tree.structure(own(2, activation=f).params())
    net = nnx.graphdef(nn.Sequential(own(2)))
    assert f in jit_cache.definitions((tree,))
    assert own in jit_cache.definitions((net,))
    assert f in jit_cache.definitions((jax.jit(f), 1, None))
