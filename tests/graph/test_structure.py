"""SNNAX's numbered graphs: straight through and delayed, against a NumPy loop written from their definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from graph.networks import BATCH, STEPS, WIDTH, layer, linear, spikes
from spyx import graph, nn

CHAIN = graph.GraphStructure(3, ((0,), (), ()), ((), (0,), (1,)))
# Two inputs, a skip from layer 0 to layer 3, feedback from 3 to 1, layer 2 sees itself.
WEB = graph.GraphStructure(4, ((0,), (1,), (), ()), ((), (0, 3), (1, 2), (2, 0)), merge="sum")


class Leaky:
    """Somebody else's layer: two methods, no base class, several state variables."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def initial_state(self, batch_size: int) -> tuple[jax.Array, jax.Array]:
        return jnp.zeros((batch_size, WIDTH)), jnp.zeros((batch_size, WIDTH))

    def __call__(self, x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        fast, slow = state
        fast = self.decay * fast + x
        slow = 0.5 * slow + 0.5 * fast
        return slow, (fast, slow)


class NumpyLeaky:
    def __init__(self, decay: float) -> None:
        self.decay, self.fast, self.slow = decay, 0.0, 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.fast = self.decay * self.fast + x
        self.slow = 0.5 * self.slow + 0.5 * self.fast
        return self.slow


def oracle(
    struct: graph.GraphStructure, layers: list[Callable[[Any], Any]], inputs: list[Any], delayed: bool, first: list[Any]
) -> np.ndarray:
    """All layers' outputs, (layers, batch, time, features); `first` is what each answered before the first step."""
    merge = {"sum": sum, "concatenate": lambda v: np.concatenate(v, -1)}[struct.merge]
    before, outs = list(first), []
    for t in range(inputs[0].shape[1]):
        now: list[Any] = []
        for i, run_layer in enumerate(layers):
            parents = [now[j] if j < i and not delayed else before[j] for j in struct.input_connectivity[i]]
            values = parents + [inputs[k][:, t] for k in struct.input_layer_ids[i]]
            now.append(run_layer(values[0] if len(values) == 1 else merge(values)))
        outs.append(now)
        before = now
    return np.asarray(outs).transpose(1, 2, 0, 3)


def by_hand(forward_fn, layers, struct, data, shapes):
    states = graph.init_states(layers, struct, BATCH, shapes)
    outs = []
    for t in range(STEPS):
        x = [d[:, t] for d in data] if isinstance(data, list) else data[:, t]
        states, outputs = forward_fn(layers, struct, None, states, x)
        outs.append(outputs)
    return outs, states


def stacked(outs, index=-1):
    return jnp.stack([step[index] for step in outs], 1)


@pytest.mark.parametrize(("forward_fn", "delayed"), [(graph.default_forward_fn, False), (graph.debug_forward_fn, True)])
def test_a_web_equals_the_numpy_loop(forward_fn, delayed):
    fc, readout = linear(0), linear(1)
    layers = [fc, Leaky(0.9), Leaky(0.3), readout]
    data = [spikes(0), spikes(1)]
    kernels = [(np.asarray(m.kernel[...]), np.asarray(m.bias[...])) for m in (fc, readout)]
    numpy_layers = [lambda x: x @ kernels[0][0] + kernels[0][1], NumpyLeaky(0.9), NumpyLeaky(0.3)]
    numpy_layers.append(lambda x: x @ kernels[1][0] + kernels[1][1])
    rest = np.zeros((BATCH, WIDTH), np.float32)
    first = [rest + kernels[0][1], rest, rest, rest + kernels[1][1]]  # a layer without state answers to zeros
    expected = oracle(WEB, numpy_layers, [np.asarray(d) for d in data], delayed, first)
    outs, states = by_hand(forward_fn, layers, WEB, data, [(WIDTH,), (WIDTH,)])
    np.testing.assert_allclose(stacked(outs), expected[-1], rtol=1e-4, atol=1e-5)
    for j, output in states.outputs.items():
        np.testing.assert_allclose(output, expected[j][:, -1], rtol=1e-4, atol=1e-5)


def test_X1_an_impulse_goes_straight_through_a_chain():
    impulse = jnp.zeros((BATCH, STEPS, 1)).at[:, 0].set(1.0)
    outs, _ = by_hand(graph.default_forward_fn, [lambda x: x] * 3, CHAIN, impulse, (1,))
    np.testing.assert_array_equal(stacked(outs), impulse)
    assert len(outs[0]) == 1


def test_X2_delayed_an_impulse_leaves_a_chain_of_L_layers_at_L_minus_1():
    impulse = jnp.zeros((BATCH, STEPS, 1)).at[:, 0].set(1.0)
    outs, _ = by_hand(graph.debug_forward_fn, [lambda x: x] * 3, CHAIN, impulse, (1,))
    assert len(outs[0]) == 3
    for index in range(3):
        np.testing.assert_array_equal(stacked(outs, index)[0, :, 0], np.arange(STEPS) == index)


def test_X6_several_inputs_are_concatenated_parents_first():
    struct = graph.GraphStructure(2, ((0,), (0,)), ((), (0,)))
    seen = []
    layers = [lambda x: 2 * x, lambda x: seen.append(x) or x]
    by_hand(graph.default_forward_fn, layers, struct, spikes(), (WIDTH,))
    np.testing.assert_array_equal(seen[-1], jnp.concatenate([2 * spikes()[:, -1], spikes()[:, -1]], -1))


def test_X6_a_layer_or_the_structure_may_name_another_merge():
    def listed(x):
        return x[0] - x[1]

    listed.merge = "list"
    struct = graph.GraphStructure(2, ((0,), (0,)), ((), (0,)))
    outs, _ = by_hand(graph.default_forward_fn, [lambda x: 3 * x, listed], struct, spikes(), (WIDTH,))
    np.testing.assert_allclose(stacked(outs), 2 * spikes(), rtol=1e-6)
    summed = graph.GraphStructure(2, ((0,), (0,)), ((), (0,)), merge={1: "sum"})
    outs, _ = by_hand(graph.default_forward_fn, [lambda x: 3 * x, lambda x: x], summed, spikes(), (WIDTH,))
    np.testing.assert_allclose(stacked(outs), 4 * spikes(), rtol=1e-6)


def web_layers():
    return [linear(0), layer("lif", 0), Leaky(0.3), layer("li", 0)]


@pytest.mark.parametrize("forward_fn", [graph.default_forward_fn, graph.debug_forward_fn])
def test_a_stateful_model_runs_as_its_forward_function_does(forward_fn):
    model = graph.StatefulModel(WEB, web_layers(), forward_fn)
    data = [spikes(0), spikes(1)]
    layer_wise, state = nn.run(model, data)
    stepped, end = nn.run(model, data, mode="step")
    outs, _ = by_hand(forward_fn, web_layers(), WEB, data, [(WIDTH,), (WIDTH,)])
    np.testing.assert_allclose(layer_wise, stacked(outs), atol=1e-5)
    np.testing.assert_allclose(stepped, stacked(outs), atol=1e-5)
    assert jax.tree.structure(state) == jax.tree.structure(end)
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    first, state = nn.run(model, [d[:, :3] for d in data])
    second, _ = nn.run(model, [d[:, 3:] for d in data], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), layer_wise, atol=1e-5)


def test_a_chain_straight_through_is_sequential_and_has_gradients():
    layers = [linear(0), layer("lif", 0), layer("li", 0)]
    model, same = graph.StatefulModel(CHAIN, layers), nn.Sequential(*layers)
    assert [s is None for s in model.initial_state(2).layers] == [True, False, False]
    np.testing.assert_allclose(nn.run(model, spikes())[0], nn.run(same, spikes())[0], atol=1e-6)
    assert [choice.mode for choice in nn.explain(model, spikes())] == ["layer"] * 3

    def loss(model):
        return jnp.sum(nn.run(model, spikes())[0] ** 2)

    ours, theirs = nnx.grad(loss)(model), nnx.grad(loss)(same)
    np.testing.assert_allclose(ours["layers"][0]["kernel"][...], theirs["layers"][0]["kernel"][...], rtol=1e-4)


def test_a_forward_function_of_your_own_is_stepped():
    def doubled(layers, struct, key, states, data):
        states, outputs = graph.default_forward_fn(layers, struct, key, states, data)
        return states, [2 * outputs[-1]]

    layers = [linear(0), layer("lif", 0), layer("li", 0)]
    own, plain = graph.StatefulModel(CHAIN, layers, doubled), graph.StatefulModel(CHAIN, layers)
    np.testing.assert_allclose(nn.run(own, spikes())[0], 2 * nn.run(plain, spikes())[0], atol=1e-6)
    assert nn.explain(own, spikes())[0].mode == "step"
    assert [child for child, _ in own.children(own.state_for(spikes()[:, 0]))][1] is layers[1]


def test_the_key_is_split_among_the_layers_that_take_one():
    seen = []

    def noisy(x, key=None):
        seen.append(key)
        return x if key is None else x + jax.random.normal(key, x.shape)

    struct = graph.GraphStructure(2, ((0,), ()), ((), (0,)))
    states = graph.init_states([noisy, noisy], struct, 1, WIDTH)
    graph.default_forward_fn([noisy, noisy], struct, jax.random.key(0), states, jnp.ones((1, WIDTH)))
    first, second = (jax.random.key_data(key) for key in seen[-2:])
    assert not (first == second).all()
    graph.default_forward_fn([noisy, noisy], struct, None, states, jnp.ones((1, WIDTH)))
    assert seen[-1] is None


def test_initial_state_takes_shapes_from_the_layers_or_from_the_user():
    feedback = graph.GraphStructure(2, ((0,), ()), ((1,), (0,)))
    model = graph.StatefulModel(feedback, [linear(0, 2 * WIDTH), layer("lif", 0)])
    assert model.initial_state(BATCH).outputs[1].shape == (BATCH, WIDTH)
    unknown = graph.StatefulModel(feedback, [jnp.tanh, linear(0, WIDTH, 1)])
    with pytest.raises(ValueError, match="got none for the layers 1. Give input_shapes="):
        unknown.initial_state(BATCH)
    told = graph.StatefulModel(feedback, [jnp.tanh, linear(0, WIDTH + 1, 1)], input_shapes=(WIDTH,))
    assert told.initial_state(BATCH).outputs[1].shape == (BATCH, 1)


def test_every_problem_of_a_structure_is_listed():
    with pytest.raises(ValueError, match=r"^spyx\.graph\.GraphStructure: expected a graph that can run; got ") as error:
        graph.GraphStructure(4, ((0, 2), (), (), (-1,)), ((), (0, 0, 9), (), (3,)), merge={7: "product"})
    for words in ["layer 1: there is no layer 9", "layer 1: layer 0 is there twice", "layer 2 is unreachable"]:
        assert words in str(error.value)
    for words in ["external input 1 feeds no layer", "layer 3: there is no external input -1", "merge 'product'"]:
        assert words in str(error.value)
    with pytest.raises(ValueError, match="input_connectivity has 1 entries: there are 2 layers"):
        graph.GraphStructure(2, ((0,), ()), ((),))
    with pytest.raises(ValueError, match="num_layers is 0"):
        graph.GraphStructure(0, (), ())


def test_wrong_layers_inputs_and_shapes_are_said():
    states = graph.init_states([jnp.tanh] * 3, CHAIN, 1, (WIDTH,))
    with pytest.raises(ValueError, match="default_forward_fn: expected 3 layers, as in the structure; got 2"):
        graph.default_forward_fn([jnp.tanh] * 2, CHAIN, None, states, jnp.ones((1, WIDTH)))
    with pytest.raises(ValueError, match="debug_forward_fn: expected 1 inputs, as in the structure; got 2"):
        graph.debug_forward_fn([jnp.tanh] * 3, CHAIN, None, states, [jnp.ones((1, WIDTH))] * 2)
    with pytest.raises(TypeError, match=r"init_states\(struct=\): expected a GraphStructure; got tuple"):
        graph.init_states([jnp.tanh], (1, ((0,),), ((),)), 1, (WIDTH,))
    with pytest.raises(ValueError, match="node '1' cannot take input of shape .batch, 3.") as error:
        graph.init_states([linear(0), nn.LI(9), nn.LI(8)], CHAIN, 1, (WIDTH,))
    assert "node '2' cannot take input of shape (batch, 9)" in str(error.value)
    with pytest.raises(TypeError, match=r"StatefulModel\(forward_fn=\): expected a function"):
        graph.StatefulModel(CHAIN, [jnp.tanh] * 3, "default")
