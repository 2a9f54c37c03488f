"""`Conv`: Flax's convolution, computed the way that is fastest on this device."""

from __future__ import annotations

from typing import Any

from flax import nnx

from spyx.engine.convolution import convolve


class Conv(nnx.Conv):
    """`flax.nnx.Conv` with the convolution that is fastest here: `y = x * kernel + bias`, channels last.

    Same arguments, parameters and result (up to the order of sums); only the algorithm differs, gradients included. On
    a CPU both gradients are matrix products over patches; on an accelerator nothing changes.

    Args:
        *args: `in_features`, `out_features`, `kernel_size`, `strides`, as for `flax.nnx.Conv`.
        **kwargs: `padding`, `kernel_dilation`, `use_bias`, `rngs` and the rest, as for `flax.nnx.Conv`.

    Shapes:
        (batch, *spatial, in_features) -> (batch, *spatial', out_features).

    Example:
        >>> import jax.numpy as jnp
        >>> Conv(2, 12, (5, 5), padding="VALID", rngs=nnx.Rngs(0))(jnp.ones((3, 34, 34, 2))).shape
        (3, 30, 30, 12)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("conv_general_dilated", convolve)
        super().__init__(*args, **kwargs)
