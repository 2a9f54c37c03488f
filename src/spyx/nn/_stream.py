"""`stream`: a run without an end, chunk by chunk as the input comes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flax import nnx

from spyx.engine.jit_cache import jit
from spyx.nn._execution import known_mode
from spyx.nn._layer import Stateful, as_layer, hashable, merged
from spyx.nn._run import run

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, PyTree, Shaped

    from spyx.engine.types import State, Tree
    from spyx.nn._layer import ByIdentity, Model


def stream(
    model: Model,
    chunks: Iterable[PyTree[Shaped[ArrayLike, "batch time ..."]]],
    state: State | None = None,
    *,
    time_axis: int = 1,
    mode: str = "auto",
) -> Iterator[tuple[PyTree[Shaped[Array, "batch time ..."]], State]]:
    """Run a model over an endless input: yields `(outputs, state)` for every chunk that comes in.

    The state is carried from chunk to chunk, so the outputs are those of one `run` over all of it. Chunks of one
    shape are compiled once.

    Args:
        model: as for `run`.
        chunks: an iterable of inputs (batch, time, *features); their lengths may differ.
        state: state before the first chunk; None is the model's initial state.
        time_axis: where time is; default 1.
        mode: as for `run`.

    Yields:
        `(outputs, state)` after each chunk.

    Raises:
        TypeError: as `run`.
        ValueError: as `run`.

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx import nn
        >>> pieces = (jnp.ones((1, 2, 1)) for _ in range(3))
        >>> [out[0, -1, 0].item() for out, _ in nn.stream(nn.IF(1, threshold=9.0), pieces)]
        [0.0, 0.0, 0.0]
    """
    known_mode(mode)
    layer = as_layer("spyx.nn.stream", model)
    for x in chunks:
        graphdef, variables = nnx.split(layer)
        token = object() if isinstance(layer, Stateful) else None  # its arrays are constants of what is compiled
        outs, state, variables = _chunk(hashable(graphdef), time_axis, mode, token, variables, x, state)
        nnx.update(layer, variables)
        yield outs, state


@jit(0, 1, 2, 3)
def _chunk(
    graphdef: nnx.GraphDef | ByIdentity,
    time_axis: int,
    mode: str,
    token: object,
    variables: nnx.State,
    x: Tree,
    state: State | None,
) -> tuple[Tree, State, nnx.State]:
    """Compiled once for equal networks and shapes, whatever stream they belong to."""
    layer = merged(graphdef, variables)
    outs, state = run(layer, x, state, time_axis=time_axis, mode=mode)
    return outs, state, nnx.split(layer)[1]
