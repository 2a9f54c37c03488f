"""`stream`: a run without an end, chunk by chunk as the input comes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
from flax import nnx

from spyx.nn.run import run


def stream(
    model: Any, chunks: Iterable[Any], state: Any = None, *, time_axis: int = 1, mode: str = "auto"
) -> Iterator[tuple[Any, Any]]:
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
    if isinstance(model, nnx.Module):
        step = nnx.jit(lambda model, x, state: run(model, x, state, time_axis=time_axis, mode=mode))
    else:
        compiled = jax.jit(lambda x, state: run(model, x, state, time_axis=time_axis, mode=mode))

        def step(model: Any, x: Any, state: Any) -> tuple[Any, Any]:
            return compiled(x, state)

    for x in chunks:
        outs, state = step(model, x, state)
        yield outs, state
