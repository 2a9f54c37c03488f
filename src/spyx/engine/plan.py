"""How things run, decided in this file: the mode of a neuron, and where time is cut.

A plan is a value: it runs, it says why, and `spyx.nn.explain` prints it. Facts about devices come from `device`.
Whether a product may skip zeros is `events.by_events`; how many there are is known only when it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import jax

from spyx.engine import device, fused, masks, over_devices
from spyx.engine.affine import parallel, runs_at_once
from spyx.engine.delayed_feedback import Late
from spyx.engine.delayed_feedback import layer as late_layer
from spyx.engine.feedback import Recurrent
from spyx.engine.fixed_point import exact
from spyx.engine.loop import layer, single

if TYPE_CHECKING:
    from spyx.engine.types import Inputs, Leaves, Outputs, Parameters, State, Step

MODES = ("auto", "step", "layer", "parallel", "fixed_point", "fused")
"""Names that `run(mode=)` accepts."""

PARALLEL = {
    "parallel": ("always", "one associative scan", parallel),
    "fixed_point": ("given_spikes", "spikes guessed and solved for until none changes", exact),
}
"""Modes without a loop over time: the trait that makes each legal, what it does, and its function."""

KERNEL_UPDATES = 2**15
"""Updates of state variables (time, batch, units, variables; a recurrent current is one more) from which a CPU kernel
was measured to beat the loop, forward and backward."""

KERNEL_UNITS = 720
"""Units up to which a recurrent layer gains as well, whatever its spikes: W stays in the second-level cache."""

LOOP = "one loop over time with a hand-derived backward pass"
KERNELS = "one kernel forward and one backward, generated from step"

Again = Literal["nothing", "cheap", "all"]
"""What the backward pass computes again: "cheap" is all but the loops over time of neurons, and what only those
read."""


@dataclass(frozen=True)
class Plan:
    """How one layer runs over time.

    Args:
        layer: the name of its class.
        shape: of its input, (time, batch, ...); where time is cut, the time of one chunk.
        mode: "layer", "step", "parallel", "fixed_point" or "fused".
        why: the reason, and what stood in the way of another mode.
        run: `(p, xs, s0) -> (outs, s_T)`, with a mask `(p, xs, s0, alive)`; None for a layer that runs itself.
        granted: the mode that was asked for by name is the one that runs.

    Example:
        >>> from spyx import nn
        >>> plan = nn.explain(nn.LI(2), jax.numpy.ones((1, 3, 2)))[0]
        >>> plan.layer, plan.mode
        ('LI', 'layer')
    """

    layer: str
    shape: tuple[int, ...]
    mode: str
    why: str
    run: Callable[..., tuple[Outputs, State]] | None = field(default=None, repr=False, compare=False)
    granted: bool = field(default=False, repr=False, compare=False)


def neuron(
    mode: str,
    name: str,
    step: Step,
    p: Parameters,
    xs: Inputs,
    s0: State,
    *,
    affine: str,
    local: bool,
    ends: bool | None = None,
) -> Plan:
    """The plan of a neuron.

    Args:
        mode: one of `MODES`; what the user asked for.
        name: of the neuron's class.
        step: its step.
        p: parameters.
        xs: input, time on axis 0.
        s0: state before the first step.
        affine: its trait: the new state is affine in the old one "always", "given_spikes" or "never".
        local: its trait: no unit reads another one.
        ends: of a `Mask`, None without one.
    """
    asked = partial(_neuron, mode, name, step, affine=affine, local=local, ends=ends)
    parts, shape = over_devices.here(), tuple(getattr(xs, "shape", ()))
    if parts is None or mode == "step" or 0 in shape:
        return asked(p, xs, s0, alone=device.one_cpu())
    over = parts.neuron(p, s0, local)
    if isinstance(over, str):
        found = asked(p, xs, s0, alone=False)
        return replace(found, why=f"{found.why}; not device by device: {over}")
    found = asked(*over.on_one(p, xs, s0), alone=device.backend() == "cpu")
    why = f"{found.why}; on each of {over.devices} devices by itself"
    return replace(found, shape=shape, why=why, run=partial(over.run, found.run))  # type: ignore[arg-type]


def _neuron(
    mode: str,
    name: str,
    step: Step,
    p: Parameters,
    xs: Inputs,
    s0: State,
    *,
    affine: str,
    local: bool,
    ends: bool | None,
    alone: bool,
) -> Plan:
    """`neuron` for the arrays of one device, or of all; on a CPU, `alone` says that no other device shares them."""
    shape = tuple(getattr(xs, "shape", ()))

    def plan(mode: str, why: str, run: Callable[..., tuple[Outputs, State]], granted: bool = False) -> Plan:
        return Plan(name, shape, mode, why, run, granted)

    def at_once(
        function: Callable[[Step, Parameters, Inputs, State], tuple[Outputs, State]],
    ) -> Callable[..., tuple[Outputs, State]]:
        return partial(function, step) if ends is None else partial(masks.gated, function, step)

    if mode == "step":
        return plan("step", "asked for: one call per time step", at_once(single))
    by_loop = partial(late_layer if isinstance(step, Late) else layer, step)  # type: ignore[arg-type]
    if ends is not None:
        by_loop = partial(masks.by_loop, step, ends)
    if 0 in shape:
        return plan("layer", f"{LOOP}; there is nothing to compute", by_loop, True)
    if mode in PARALLEL:
        needs, what, function = PARALLEL[mode]
        if affine != needs or not local:
            return plan("layer", f"{LOOP}; {mode} needs a local neuron with affine = {needs!r}", by_loop)
        if not runs_at_once(p, xs, s0):
            return plan("layer", f"{LOOP}; {mode} needs parameters, input and state of floating dtypes", by_loop)
        return plan(mode, f"asked for: {what}", at_once(function), True)
    if mode == "fused" or (mode == "auto" and alone and _kernel_wins(step, shape, s0)):
        found = _kernel(step, p, xs, s0, local, ends)
        if not isinstance(found, str):
            asked = "asked for" if mode == "fused" else f"at least {KERNEL_UPDATES} state updates"
            run = partial(fused.run, found)
            return plan("fused", f"{asked}: {KERNELS}", run if ends is None else partial(masks.by_kernel, run), True)
        return plan("layer", f"{LOOP}; no fused kernel: {found}", by_loop)
    return plan("layer", LOOP, by_loop)


def _kernel(step: Step, p: Parameters, xs: Inputs, s0: State, local: bool, ends: bool | None) -> fused.ByKernel | str:
    """The kernels of a step, or in words what stands in the way: a trait, an extra, a platform, a primitive."""
    if ends is False:
        return "a mask whose samples come back"
    if ends:
        step, s0 = masks.counted(step), masks.start_of_lanes(s0)
    recurrent = isinstance(step, Recurrent)
    if not local and not recurrent:
        return "its units read one another"
    missing = fused.unavailable(recurrent=recurrent)
    if missing is not None:
        return missing
    try:
        return fused.kernel(step, p, xs, s0)
    except fused.Unsupported as reason:
        return str(reason)


def _kernel_wins(step: Step, shape: tuple[int, ...], s0: State) -> bool:
    # On a GPU the kernels have not been measured yet.
    recurrent = isinstance(step, Recurrent)
    if recurrent and math.prod(shape[2:]) > KERNEL_UNITS:
        return False
    return math.prod(shape) * (len(jax.tree.leaves(s0)) + recurrent) >= KERNEL_UPDATES


@dataclass(frozen=True)
class Cut:
    """Time in pieces.

    Args:
        length: steps of a chunk; None: the square root of all.
        again: what the backward pass computes again.
        truncate: no gradient crosses from a chunk to the one before it.
        inference_only: with a gradient, time is not cut.
        why: the reason.
    """

    length: int | None
    again: Again = "nothing"
    truncate: bool = False
    inference_only: bool = False
    why: str = "asked for"

    def steps(self, total: int) -> int:
        """Steps of a chunk out of `total`."""
        return min(self.length or math.ceil(math.sqrt(total)), total)


def cut(
    steps: int, batch: int, units: int, variables: int, weights: Leaves, *, changes: bool, whole: bool
) -> Cut | None:
    """The cut that is faster than none, or None: on a CPU, chunks of time that stay in the cache.

    In training, memory that is written once and read once costs more than cheap things done again. Products of
    convolutions are not cheap, and a weight's gradient that does not fit the cache should not be summed up over
    chunks: such models are cut in inference alone.

    Args:
        steps: time steps.
        batch: samples.
        units: of the widest layer.
        variables: most state variables of a layer.
        weights: parameters of the model.
        changes: the model changes itself as it runs (BatchNorm means all of time at once): it is not cut.
        whole: a layer needs all of time in one call: the model is not cut.
    """
    parts = over_devices.here()
    batch = batch if parts is None else -(-batch // parts.samples)
    if device.backend() != "cpu" or changes or whole or 4 * batch * units * steps < 3 * device.CACHE_BYTES:
        return None  # memory of less than three chunks is not given back to the system, and is fresh only once
    length = max(1, device.CACHE_BYTES // (4 * batch * units * variables))
    even = [n for n in range((length + 1) // 2, 2 * length + 1) if steps % n == 0]  # no shorter chunk at the end
    length = min(even, key=lambda n: abs(math.log(n / length)), default=length)
    dense = all(w.ndim <= 2 and w.size * w.dtype.itemsize <= device.CACHE_BYTES for w in weights)
    why = "the states of a chunk stay in the cache"
    return Cut(length, "cheap", inference_only=not dense, why=why)
