"""Solvers around solvers: training in a shorter floating format, and the average of the parameters as the result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.optimize._solver import Objective, Solver, SolverImpl, as_solver

if TYPE_CHECKING:
    from jaxtyping import Array, DTypeLike, Float, Int, PRNGKeyArray, PyTree, Shaped

    from spyx.optimize.types import OneBatch, Optimiser, ParameterLoss, Rest, SolverState, Trainable

    Averaging = tuple[SolverState, Trainable, Int[Array, ""]]
    """State of the solver inside, sum of the weighed parameters, number of updates."""

SHORT = ("bfloat16", "float16")


def mixed_precision(solver: Optimiser, dtype: DTypeLike = "bfloat16", scale: float | None = None) -> Solver:
    """Forward and backward pass in a short format; parameters, optimiser and updates stay in float32.

    Every step casts a copy of the parameters, of what else the network holds and of the batch's floating numbers; the
    gradient comes back in float32. The loss is multiplied by `scale` before the backward pass and the gradient divided
    by it, so that small gradients do not vanish in float16. Evaluation stays in float32.

    Args:
        solver: an Optax optimiser, or a `Solver`.
        dtype: `"bfloat16"` or `"float16"`.
        scale: > 0. Default: 1 for bfloat16, which has the exponents of float32, 1024 for float16.

    Raises:
        ValueError: another format; a scale that is not above 0.
        TypeError: no Optax optimiser and no solver.

    Example:
        >>> import optax
        >>> from spyx import nn
        >>> from spyx.optimize import train
        >>> data, loss = (jnp.ones((2, 1, 3, 1)),), lambda model, x: -nn.run(model, x)[0].mean()
        >>> trained = train(nn.LI(1, beta=0.5), mixed_precision(optax.sgd(0.1)), loss, data, epochs=2)
        >>> trained.model.beta[...].dtype, trained.history[1]["train_loss"] < trained.history[0]["train_loss"]
        (dtype('float32'), True)

    Reference:
        Micikevicius et al. (2018), "Mixed precision training", arXiv:1710.03740; the scale is constant here.
    """
    owner = "spyx.optimize.mixed_precision"
    inner = as_solver(owner, solver)
    try:
        name = "none" if dtype is None else str(jnp.dtype(dtype))
    except TypeError:  # no dtype at all
        name = repr(dtype)
    if name not in SHORT:
        raise ValueError(f"{owner}(dtype=): expected {' or '.join(SHORT)}; got {name}. Leave mixed_precision out.")
    factor = (1.0 if name == "bfloat16" else 1024.0) if scale is None else scale
    if isinstance(factor, bool) or not isinstance(factor, Real) or not 0 < factor < float("inf"):
        raise ValueError(f"{owner}(scale=): expected a number above 0; got {scale!r}. Try 1024.")

    def build(loss: ParameterLoss, params: Trainable) -> SolverImpl:
        if not isinstance(loss, Objective):
            raise TypeError(
                f"{owner}: expected the loss of a network; got {type(loss).__name__}. Use it in fit, compile_fit, "
                "train or population."
            )
        short = _Short(loss.owner, loss.loss_fn, loss.graphdef, loss.rest, name, float(factor))
        return inner(short, params)

    return build


def averaged(solver: Optimiser, decay: float) -> Solver:
    """The network is the running average of its parameters: a' = decay * a + (1 - decay) * params, without bias.

    What trains is as without; what is evaluated, kept as the best and returned is the average `a / (1 - decay^n)`
    after n updates. BatchNorm's averages and other state are those of the network that trains.

    Args:
        solver: an Optax optimiser, or a `Solver`.
        decay: in [0, 1); 0.99 averages over about 100 updates.

    Raises:
        ValueError: a decay out of its range.
        TypeError: no Optax optimiser and no solver.

    Example:
        >>> import optax
        >>> impl = averaged(optax.sgd(1.0), 0.5)(lambda params, batch: params * batch, jnp.float32(0.0))
        >>> state = impl.init(jax.random.key(0))
        >>> for _ in range(2):
        ...     state, loss = impl.step(state, jnp.float32(1.0), jax.random.key(0))
        >>> round(float(impl.get_params(state)), 4)  # of -1 and -2
        -1.6667

    Reference:
        Polyak, Juditsky (1992), "Acceleration of stochastic approximation by averaging", doi:10.1137/0330046; the
        correction of the bias is Adam's.
    """
    owner = "spyx.optimize.averaged"
    inner = as_solver(owner, solver)
    if isinstance(decay, bool) or not isinstance(decay, Real) or not 0 <= decay < 1:
        raise ValueError(f"{owner}(decay=): expected a number from 0 to below 1; got {decay!r}. Try 0.99.")

    def build(loss: ParameterLoss, params: Trainable) -> SolverImpl:
        impl = inner(loss, params)

        def init(key: PRNGKeyArray) -> Averaging:
            return impl.init(key), jax.tree.map(jnp.zeros_like, params), jnp.int32(0)

        def step(state: Averaging, batch: OneBatch, key: PRNGKeyArray) -> tuple[Averaging, Float[Array, ""]]:
            after, found = impl.step(state[0], batch, key)
            mean = jax.tree.map(partial(_towards, decay), state[1], impl.get_params(after))
            return (after, mean, state[2] + 1), found

        def get_params(state: Averaging) -> Trainable:
            count = state[2].astype(jnp.float32)
            share = 1 - jnp.float32(decay) ** count
            now = impl.get_params(state[0])  # before the first update
            return jax.tree.map(
                lambda a, p: jnp.where(count > 0, a / jnp.maximum(share, 1e-8).astype(a.dtype), p), state[1], now
            )

        get, put = impl.get_rest, impl.put_rest
        return SolverImpl(
            init,
            step,
            get_params,
            None if get is None else lambda state: get(state[0]),
            None if put is None else lambda state, rest: (put(state[0], rest), *state[1:]),
        )

    return build


@dataclass(frozen=True)
class _Short(Objective):
    """The loss of a copy of the network in a short format."""

    dtype: str = "bfloat16"
    scale: float = 1.0

    def with_rest(self, params: Trainable, rest: Rest, batch: OneBatch) -> tuple[Float[Array, ""], Rest]:
        params = jax.tree.map(lambda a: _cast(a, self.dtype, self.scale) if _floating(a) else a, params)
        short = jax.tree.map(self._shortened, rest, is_leaf=lambda node: isinstance(node, nnx.Variable))
        batch = self._shortened(batch)
        loss, after = super().with_rest(params, short, batch)
        after = jax.tree.map(lambda new, old: new.astype(old.dtype) if _floating(old) else new, after, rest)
        return _scaled(loss.astype(jnp.float32), self.scale), after

    def _shortened(self, tree: PyTree[Shaped[Array, "..."]]) -> PyTree[Shaped[Array, "..."]]:
        """Everything but the averages of BatchNorm, which Flax keeps in float32."""
        if isinstance(tree, nnx.BatchStat):
            return tree
        return jax.tree.map(lambda a: a.astype(self.dtype) if _floating(a) else a, tree)


def _floating(leaf: Shaped[Array, "..."]) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _cast(leaf: Float[Array, "..."], dtype: str, scale: float) -> Float[Array, "..."]:
    """In the short format; its gradient comes back in that of `leaf`, divided by `scale`."""
    return leaf.astype(dtype)


def _cast_forward(leaf: Float[Array, "..."], dtype: str, scale: float) -> tuple[Float[Array, "..."], Float[Array, ""]]:
    return leaf.astype(dtype), jnp.zeros((), leaf.dtype)


def _cast_backward(
    dtype: str, scale: float, like: Float[Array, ""], gradient: Float[Array, "..."]
) -> tuple[Float[Array, "..."]]:
    return (gradient.astype(like.dtype) / jnp.asarray(scale, like.dtype),)


_cast.defvjp(_cast_forward, _cast_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _scaled(loss: Float[Array, ""], scale: float) -> Float[Array, ""]:
    """The loss as it is; its gradient is multiplied."""
    return loss


_scaled.defvjp(lambda loss, scale: (loss, None), lambda scale, _, gradient: (gradient * jnp.float32(scale),))


def _towards(decay: float, mean: Float[Array, "*shape"], new: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.asarray(decay, mean.dtype) * mean + jnp.asarray(1 - decay, mean.dtype) * new
