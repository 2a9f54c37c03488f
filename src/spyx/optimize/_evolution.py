"""`evolve`: an evolution strategy of evosax in the place of an optimiser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from numbers import Integral
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.optimize._kinds import hold_delays
from spyx.optimize._solver import Objective, Solver, SolverImpl

if TYPE_CHECKING:
    from evosax.algorithms.distribution_based.base import DistributionBasedAlgorithm
    from jaxtyping import Array, Float, PRNGKeyArray

    from spyx.optimize.types import OneBatch, ParameterLoss, SolverState, Trainable


def evolve(strategy: type[DistributionBasedAlgorithm], members: int, **options: Any) -> Solver:
    """An evolution strategy as a `Solver`: each step scores `members` networks on a batch and moves their mean.

    No gradient is computed, so spikes need no surrogate. It is passed to `train`, `fit`, `compile_fit` or `population`
    as an optimiser is, with any loss. The network that is returned and evaluated is the mean; the loss of a step is the
    mean of the members' losses. What a network changes on itself besides its parameters (BatchNorm's averages) stays as
    it was.

    Args:
        strategy: a class of `evosax.algorithms` that moves a mean, such as `Open_ES`, `PGPE` or `SNES`.
        members: networks per step, >= 2.
        **options: of the class, such as `optimizer=optax.adam(0.01)` and `std_schedule=optax.constant_schedule(0.1)`.

    Raises:
        TypeError: no class, or one of strategies without a mean.
        ValueError: fewer than 2 members; once it is used, members or options that the strategy refuses.
        ImportError: without evosax.

    Example:
        >>> import optax
        >>> from evosax.algorithms import Open_ES
        >>> from spyx import nn, optimize
        >>> solver = evolve(Open_ES, 8, optimizer=optax.adam(0.1), std_schedule=optax.constant_schedule(0.1))
        >>> data, loss = (jnp.ones((2, 1, 3, 1)),), lambda model, x: -nn.run(model, x)[0].mean()
        >>> trained = optimize.train(nn.LI(1, beta=0.5), solver, loss, data, epochs=3, key=jax.random.key(0))
        >>> trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]
        True

    Reference:
        Salimans et al. (2017), "Evolution strategies as a scalable alternative to reinforcement learning",
        arXiv:1703.03864; evosax: Lange (2022), arXiv:2212.04180.
    """
    owner = "spyx.optimize.evolve"
    if not isinstance(strategy, type) or not issubclass(strategy, _with_mean(owner)):
        raise TypeError(
            f"{owner}(strategy=): expected a class of evosax.algorithms that has a mean; got {strategy!r}. "
            "Pass evosax.algorithms.Open_ES."
        )
    if not isinstance(members, Integral) or isinstance(members, bool) or members < 2:
        raise ValueError(f"{owner}(members=): expected a whole number, 2 or more; got {members!r}. Try 64.")

    def build(loss: ParameterLoss, params: Trainable) -> SolverImpl:
        rest = loss.rest if isinstance(loss, Objective) else ()
        like = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), params)
        try:
            found = strategy(population_size=int(members), solution=like, **options)
        except (AssertionError, TypeError, ValueError) as error:
            got = ", ".join([f"{members} members", *options])
            raise ValueError(
                f"{owner}: expected members and options that {strategy.__name__} takes; got {got}. It says: {error}"
            ) from error
        how = found.default_params

        def init(key: PRNGKeyArray) -> SolverState:
            with _freely():
                return found.init(key, params, how), rest

        def step(state: SolverState, batch: OneBatch, key: PRNGKeyArray) -> tuple[SolverState, Float[Array, ""]]:
            ask, tell = jax.random.split(key)
            with _freely():
                networks, asked = found.ask(ask, state[0], how)
            losses = jax.vmap(lambda network: loss(hold_delays(network), batch))(networks)
            with _freely():
                told, _ = found.tell(tell, networks, losses, asked, how)
            told = jax.tree.map(lambda new, old: jnp.asarray(new, jnp.result_type(old)), told, state[0])
            return (told, state[1]), losses.mean()

        def get_params(state: SolverState) -> Trainable:
            return hold_delays(found.get_mean(state[0]))

        return SolverImpl(init, step, get_params, lambda state: state[1], lambda state, rest: (state[0], rest))

    return build


def _with_mean(owner: str) -> type[DistributionBasedAlgorithm]:
    try:
        from evosax.algorithms.distribution_based.base import DistributionBasedAlgorithm
    except ImportError as error:
        raise ImportError(
            f"{owner}: expected evosax; got none. Install it with pip install 'spyx-jax[evolve]'."
        ) from error
    return DistributionBasedAlgorithm


@contextlib.contextmanager
def _freely() -> Iterator[None]:
    """As evosax computes: it mixes dtypes, and adds vectors to matrices."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
