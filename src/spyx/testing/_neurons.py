"""`check_neuron`: what a subclass of `spyx.nn.Neuron` must satisfy, its two declared traits included."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from spyx import nn
from spyx.nn._traits import affine_kind, is_local
from spyx.testing._agreement import require, require_docstring
from spyx.testing._layers import check_batch_independence, check_gradients, check_layer, check_streaming

_SECTIONS = ("Args", "Shapes", "Example", "Reference")


def check_neuron(neuron: nn.Neuron, *, docstring: bool = False, tolerance: float = 1e-4) -> None:
    """Check a neuron: its traits are true, every legal mode agrees with the scan in value and every gradient.

    Also: dtype in = dtype out, samples independent, a stream may be cut, equal configurations share one trace, and a
    wrong shape raises.

    Args:
        neuron: an instance; small hidden shapes compile fast.
        docstring: also require the sections of our docstring template.
        tolerance: largest difference, relative to 1 + the largest value.

    Raises:
        AssertionError: names the promise that is broken.

    Example:
        >>> check_neuron(nn.LIF(3, beta=0.9))
    """
    name = type(neuron).__name__
    if docstring:
        require_docstring(type(neuron), _SECTIONS)
    _check_contract(name, neuron)
    _check_dtypes(name, neuron)
    _check_one_trace(name, neuron)
    require(
        neuron.affine == affine_kind(neuron), name, f"affine={neuron.affine!r}; the step is {affine_kind(neuron)!r}"
    )
    require(neuron.local or not is_local(neuron), name, "local=False, but no unit reads another unit's state")
    require(is_local(neuron) or not neuron.local, name, "local=True, but a unit reads another unit's state")
    x = input_with_margin(neuron)
    check_batch_independence(name, neuron, x, tolerance)
    check_streaming(name, neuron, x, tolerance)
    modes = ["layer", "auto"]
    if neuron.affine == "always":
        modes.append("parallel")
    elif neuron.affine == "given_spikes" and neuron.local:
        modes.append("fixed_point")
    if _has_kernel(neuron, x):
        modes.append("fused")
    check_gradients(name, neuron, x, tuple(modes), tolerance)
    check_layer(nn.Sequential(neuron), neuron.hidden_shape, tolerance=tolerance)


def _has_kernel(neuron: nn.Neuron, x: jax.Array) -> bool:
    try:
        return nn.explain(neuron, x, mode="fused")[0].mode == "fused"
    except ValueError:
        return False


def input_with_margin(neuron: nn.Neuron, steps: int = 8) -> jax.Array:
    """Random input (3, steps, *hidden_shape) that keeps membranes off the threshold: rounding flips no spike."""
    for seed in range(50):
        x = 1.5 * jax.random.normal(jax.random.key(seed), (3, steps, *neuron.hidden_shape))
        nearest = _nearest_to_threshold(neuron, x)
        if nearest > 2e-3:
            return x
    return x  # type: ignore[possibly-unbound]


def _nearest_to_threshold(neuron: nn.Neuron, x: jax.Array) -> float:
    distances: list[jax.Array] = []

    def spike(u: jax.Array) -> jax.Array:
        distances.append(jnp.min(jnp.abs(u)))
        return neuron.activation(u)

    @jax.jit
    def nearest(x: jax.Array) -> jax.Array:
        p, s = neuron.params().replace(spike=spike), neuron.initial_state(x.shape[0])
        distances.clear()
        for t in range(x.shape[1]):
            _, s = neuron.step(p, x[:, t], s)
        return jnp.min(jnp.stack(distances)) if distances else jnp.asarray(jnp.inf)

    return float(nearest(x))


def _check_contract(name: str, neuron: nn.Neuron) -> None:
    state = neuron.initial_state(2)
    expected = (2, *neuron.hidden_shape)
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    require(shapes == [expected] * len(neuron.state), name, f"every state variable has shape {expected}")
    rest = [leaf.reshape(-1)[0] for leaf in jax.tree.leaves(state)]
    declared = [jnp.asarray(v, r.dtype) for v, r in zip(neuron.state.values(), rest, strict=True)]
    require(all(map(jnp.array_equal, rest, declared)), name, "initial_state is the declared resting state")
    out, after = neuron(jnp.ones(expected), state)
    require(out.shape == expected, name, f"the output has shape {expected}; got {out.shape}")
    require(jax.tree.structure(after) == jax.tree.structure(state), name, "step returns State(...), as declared")
    if neuron.hidden_shape == (1,):
        return
    try:
        neuron(jnp.ones((2,) + (1,) * len(neuron.hidden_shape)), state)
    except ValueError:
        return
    require(neuron.hidden_shape == (1,) * len(neuron.hidden_shape), name, "an input of another shape raises ValueError")


def _check_dtypes(name: str, neuron: nn.Neuron) -> None:
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        x = jnp.ones((2, 3, *neuron.hidden_shape), dtype)
        outs, state = nn.run(neuron, x)
        require(outs.dtype == dtype, name, f"dtype in = dtype out; {jnp.dtype(dtype)} came out as {outs.dtype}")
        floats = [leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        require(all(f == jnp.float32 for f in floats), name, "the state stays float32 when inputs are narrower")
    spikes = jnp.ones((2, 3, *neuron.hidden_shape), jnp.uint8)
    require(nn.run(neuron, spikes)[0].dtype == jnp.float32, name, "uint8 spikes are welcome and come out as float32")


def _check_one_trace(name: str, neuron: nn.Neuron) -> None:
    first, second = nnx.split(neuron), nnx.split(nnx.clone(neuron))
    require(first[0] == second[0] and hash(first[0]) == hash(second[0]), name, "equal configurations share one trace")
    a, b = (jax.tree.structure(n.params()) for n in (neuron, nnx.clone(neuron)))
    require(a == b, name, "the static parameters of equal configurations are equal")
