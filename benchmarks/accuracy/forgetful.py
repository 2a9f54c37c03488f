"""LIF whose membrane forgets at a fixed rate: what it knows of the time between spikes must come from delays."""

from __future__ import annotations

from typing import Any

from flax import nnx

from spyx import nn


class ForgetfulLIF(nn.LIF):
    """`nn.LIF` with a decay of 0.3 per step that is not trained.

    Args:
        hidden_shape: as of `nn.LIF`.
        activation: the surrogate.
        rngs: unused.
    """

    def __init__(self, hidden_shape: int | tuple[int, ...], activation: Any, rngs: nnx.Rngs | None = None) -> None:
        super().__init__(hidden_shape, beta=nn.Fixed(0.3), activation=activation)
