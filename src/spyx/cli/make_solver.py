"""From settings to an optimiser: AdamW along a cosine, on batches that may be augmented."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import optax

from spyx import data, optimize
from spyx.cli.config import AugmentTable, Config
from spyx.cli.make_network import learns_delays

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Num

    from spyx.data._augment import Augment
    from spyx.engine.types import Parameters, Tree

    Objective = Callable[[Parameters, tuple[Array, ...]], Float[Array, ""]]
    """`(parameters, batch) -> loss`."""


def make_solver(config: Config, steps: int, frame: tuple[int, ...]) -> optax.GradientTransformation | optimize.Solver:
    """The optimiser of a run.

    Args:
        config: the settings.
        steps: updates in the whole run.
        frame: shape of one time step of a sample, before it was made flat.
    """
    steps = -(-steps // config.accumulate)  # the optimiser sees one update of several batches
    rise = round(config.warmup * steps)

    def rate(most: float) -> optax.Schedule:
        falling = optax.cosine_decay_schedule(most, steps)
        return optax.warmup_cosine_decay_schedule(0.0, most, rise, steps) if rise else falling

    tx = optax.adamw(rate(config.learning_rate), weight_decay=config.weight_decay)
    if learns_delays(config):
        delays = optax.adam(rate(config.delay_learning_rate))
        tx = optax.multi_transform({"weights": tx, "decays": tx, "delays": delays}, optimize.parameter_kinds)
    if config.clip:
        tx = optax.chain(optax.clip_by_global_norm(config.clip), tx)
    if config.accumulate > 1:
        tx = optax.MultiSteps(tx, config.accumulate).gradient_transformation()
    solver: optimize.Solver | None = None
    if config.precision != "float32":
        solver = optimize.mixed_precision(tx, config.precision)
    if config.average:
        solver = optimize.averaged(solver or tx, config.average)
    augment = _chain(config.augment, frame)
    if augment is None:
        return solver or tx
    return _augmented(solver or optimize.backprop(tx), augment, frame)


def _chain(table: AugmentTable, frame: tuple[int, ...]) -> Augment | None:
    """The augmentations that are not 0, one after the other, or None."""
    space = (2,) if len(frame) < 2 else (2, 3)
    made = {
        "stretch_space": lambda most: data.stretch(most, axis=2),
        "stretch_time": data.stretch,
        "shift_space": lambda size: data.shift_space(size, axes=space),
        "shift_time": lambda size: data.shift_space(size, axes=(1,)),
        "jitter_time": data.jitter_time,
        "drop_spikes": data.drop_spikes,
        "mask_time": lambda size: data.mask_axis(size, axis=1),
        "mask_space": lambda size: data.mask_axis(size, axis=2),
    }
    steps = [make(getattr(table, name)) for name, make in made.items() if getattr(table, name)]
    return data.chain(*steps) if steps else None


def _augmented(solver: optimize.Solver, augment: Augment, frame: tuple[int, ...]) -> optimize.Solver:
    """`solver`, whose every batch is augmented anew in its shape (batch, time, *frame)."""

    def build(objective: Objective, params: Parameters) -> optimize.SolverImpl:
        impl = solver(objective, params)

        def step(
            state: Tree, batch: tuple[Num[Array, "samples ..."], ...], key: jax.Array
        ) -> tuple[Tree, Float[Array, ""]]:
            x = batch[0]
            frames = augment(x.reshape(*x.shape[:2], *frame), jax.random.fold_in(key, 1)).reshape(x.shape)
            augmented = batch._replace(x=frames) if isinstance(batch, data.SequenceBatch) else (frames, *batch[1:])
            return impl.step(state, augmented, key)

        return impl._replace(step=step)

    return build
