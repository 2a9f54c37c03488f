"""Graphs that are written often: a chain, a residual block, parallel branches, a spiking ResNet block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from flax import nnx

from spyx import nn
from spyx.graph._network import Graph

if TYPE_CHECKING:
    from spyx.graph.types import WrittenEdge
    from spyx.nn._layer import Model


def feed_forward(*layers: Model) -> Graph:
    """A chain as a graph: the same network as `nn.Sequential(*layers)`, with the same output and the same cost.

    Args:
        *layers: at least one layer; nodes are called by their type and place, `linear_0`, `lif_1`, ...

    Raises:
        ValueError: no layer.

    Example:
        >>> import jax.numpy as jnp
        >>> net = feed_forward(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nn.IF(4))
        >>> net
        Graph(2 nodes, 3 edges)
          linear_0  Linear(3 → 4)  <- input
          if_1      IF(4)          <- linear_0
          output                   <- if_1
    """
    if not layers:
        raise ValueError("spyx.graph.feed_forward: expected at least one layer; got none. Pass layers as arguments.")
    nodes = _named(layers)
    return Graph(nodes, _chain("input", nodes, "output"))


def residual(*layers: Model, shortcut: Model | None = None, delay: int = 0, merge: str = "sum") -> Graph:
    """A chain with a way around it: `out[t] = layers(x)[t] + shortcut(x)[t - delay]`.

    The output of a spiking layer is one step late: with `delay` equal to the number of spiking layers in the chain,
    both ways end with the same input step.

    Args:
        *layers: the chain.
        shortcut: a layer on the way around, for another width or resolution; None is the input itself.
        delay: time steps that the shortcut waits, 0 or more; default 0.
        merge: how both ways meet; default "sum".

    Example:
        >>> import jax.numpy as jnp
        >>> block = residual(nn.IF(2), delay=1)
        >>> out, _ = nn.run(block, jnp.ones((1, 3, 2)))
        >>> out[0, :, 0].tolist()
        [0.0, 1.0, 2.0]

    Reference:
        He et al. (2016), Deep residual learning for image recognition, doi:10.1109/CVPR.2016.90.
    """
    nodes = _named(layers)
    edges = _chain("input", nodes, "output")
    if shortcut is None:
        edges.append(("input", "output", delay))
    else:
        nodes["shortcut"] = shortcut
        edges += [("input", "shortcut"), ("shortcut", "output", delay)]
    return Graph(nodes, edges, merge={"output": merge})


def parallel(*branches: Model, merge: str = "concatenate") -> Graph:
    """Branches that see the same input: `out[t] = merge(branch_0(x)[t], branch_1(x)[t], ...)`.

    Args:
        *branches: layers, `nn.Sequential`s or graphs.
        merge: how the branches meet; default "concatenate". "list" returns a list.

    Example:
        >>> import jax.numpy as jnp
        >>> out, _ = nn.run(parallel(nn.LI(2), jnp.tanh), jnp.ones((1, 3, 2)))
        >>> out.shape
        (1, 3, 4)
    """
    if not branches:
        raise ValueError("spyx.graph.parallel: expected at least one branch; got none. Pass layers as arguments.")
    nodes = _named(branches)
    edges = [edge for name in nodes for edge in (("input", name), (name, "output"))]
    return Graph(nodes, edges, merge={"output": merge})


def spiking_resnet_block(
    input_shape: Sequence[int],
    features: int,
    *,
    stride: int = 1,
    neuron: Callable[[tuple[int, ...]], Model] | None = None,
    rngs: nnx.Rngs,
) -> Graph:
    """Two spiking 3x3 convolutions and a shortcut that meets them in front of the second neuron.

    `spike2(norm(conv(spike1(norm(conv(x))))) + shortcut(x))`. The first neuron is one step late, so the shortcut
    waits one step too: the second neuron sees both ways of the same input step. The shortcut is the input itself, or a
    1x1 convolution where resolution or width change.

    Args:
        input_shape: (height, width, channels) of one sample at one step.
        features: channels of the output.
        stride: of the first convolution and of the shortcut; default 1.
        neuron: makes a spiking layer from a hidden shape; None is `nn.LIF(shape, beta=0.9)`.
        rngs: draws the weights.

    Shapes:
        (batch, height, width, channels) -> (batch, ceil(height / stride), ceil(width / stride), features).

    Example:
        >>> import jax.numpy as jnp
        >>> block = spiking_resnet_block((4, 4, 2), 3, stride=2, rngs=nnx.Rngs(0))
        >>> out, _ = nn.run(block, jnp.ones((1, 5, 4, 4, 2)))
        >>> out.shape
        (1, 5, 2, 2, 3)

    Reference:
        He et al. (2016), doi:10.1109/CVPR.2016.90; spiking: Fang et al. (2021), Deep residual learning in spiking
        neural networks, NeurIPS 34. The delay on the shortcut is ours: those neurons spike within the step.
    """
    height, width, channels = input_shape
    shape = (-(-height // stride), -(-width // stride), features)
    make = neuron or (lambda hidden_shape: nn.LIF(hidden_shape, beta=0.9))

    def conv(source: int, size: int, step: int) -> nnx.Conv:
        return nnx.Conv(source, features, (size, size), strides=step, use_bias=False, rngs=rngs)

    nodes: dict[str, Model] = {
        "conv1": conv(channels, 3, stride),
        "norm1": nnx.BatchNorm(features, rngs=rngs),
        "spike1": make(shape),
        "conv2": conv(features, 3, 1),
        "norm2": nnx.BatchNorm(features, rngs=rngs),
        "spike2": make(shape),
    }
    edges = _chain("input", nodes, "output")
    if (height, width, channels) == shape:
        edges.append(("input", "spike2", 1))
    else:
        nodes |= {"shortcut": conv(channels, 1, stride), "norm": nnx.BatchNorm(features, rngs=rngs)}
        edges += [("input", "shortcut"), ("shortcut", "norm"), ("norm", "spike2", 1)]
    return Graph(nodes, edges, merge={"spike2": "sum"}, input_shape=tuple(input_shape))


def _named(layers: Sequence[Model]) -> dict[str, Model]:
    """Layers by type and place."""
    return {f"{_word(layer)}_{place}": layer for place, layer in enumerate(layers)}


def _word(layer: Model) -> str:
    word = getattr(layer, "__name__", type(layer).__name__).lower().strip("_")
    return word if word.isidentifier() else "function"


def _chain(start: str, nodes: Iterable[str], end: str) -> list[WrittenEdge]:
    path = [start, *nodes, end]
    return list(zip(path[:-1], path[1:], strict=True))
