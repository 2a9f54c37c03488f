"""How a run is carried out: the request that `run` hands down through containers to layers, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp

from spyx.engine.masks import Mask, where
from spyx.engine.plan import MODES, PARALLEL, Plan

if TYPE_CHECKING:
    from spyx.engine.types import Inputs, Outputs, States, Tree
    from spyx.nn._layer import Layer


class Recorder:
    """Collects the plans of a run, one for every layer, by its path; equal to itself alone."""

    def __init__(self) -> None:
        self.plans: dict[tuple[str, ...], Plan] = {}
        self.time: str | None = None
        self.settled = False  # the plans of a gradient are recorded: what is traced besides is not what runs


@dataclass(frozen=True)
class Tap:
    """What `observe` asks for.

    Args:
        what: "outputs", "inputs", "state", or names of state variables.
        where: the paths of the layers, or a function `(path, layer) -> bool`; None for all.
        summed: sums over samples are recorded, as soon as they are known.
    """

    what: tuple[str, ...]
    where: Collection[str] | Callable[[str, Layer], object] | None = None
    summed: bool = False

    def takes(self, path: str, layer: Layer) -> bool:
        if self.where is None:
            return True
        return bool(self.where(path, layer)) if callable(self.where) else path in self.where


@dataclass(frozen=True)
class Execution:
    """The request of a run.

    Args:
        mode: one of `spyx.nn.MODES`; "auto" lets the plan choose.
        path: where in the network the layer is that this is handed to, a name per container.
        recorder: collects plans, or None.
        tap: what is observed, or None.
        seen: what was observed so far, by path; time on axis 0.
        mask: which steps of which samples count, or None for all. A layer whose `sequence` is not marked by
            `takes_masks` never sees one.
        added: what is added to the inputs of layers, by path, with time on axis 0; None for nothing.

    Example:
        >>> Execution(mode="layer").inside("0").path
        ('0',)
    """

    mode: str = "auto"
    path: tuple[str, ...] = ()
    recorder: Recorder | None = None
    tap: Tap | None = None
    seen: dict[str, Outputs] = field(default_factory=dict, compare=False, hash=False, repr=False)
    mask: Mask | None = field(default=None, compare=False, hash=False, repr=False)
    added: Mapping[str, Inputs] | None = field(default=None, compare=False, hash=False, repr=False)

    def inside(self, name: str) -> Execution:
        """The request for the layer of that name in a container."""
        return replace(self, path=(*self.path, name))

    def fresh(self) -> Execution:
        """The same request with nothing seen, for the body of a loop."""
        return replace(self, seen={})

    def unmasked(self) -> Execution:
        """The same request for steps that all count; without arrays, so that it may be part of what is compiled."""
        return replace(self, mask=None, added=None)

    def all_samples(self, wanted: bool) -> Execution:
        """The same request with every sample recorded, for a loop that learns only later which of them count."""
        return replace(self, tap=replace(self.tap, summed=False)) if wanted and self.tap is not None else self

    def added_inside(self) -> dict[str, Inputs]:
        """What is added to the inputs of layers inside this one."""
        prefix = f"{self._name}." if self.path else ""
        return {path: a for path, a in (self.added or {}).items() if path.startswith(prefix) and path != self._name}

    def alive(self, outs: Outputs) -> Outputs:
        """Outputs (time, batch, ...), zero where a step does not count."""
        return outs if self.mask is None else where(self.mask.alive, outs)

    def add(self, plan: Plan) -> None:
        """Record the plan of this layer."""
        if self.recorder is not None and not self.recorder.settled:
            self.recorder.plans[self.path] = plan

    def note(self, layer: Layer, xs: Inputs, mode: str, why: str, *, granted: bool = False) -> None:
        """Record how a layer runs that runs itself."""
        shape = tuple(getattr(jax.tree.leaves(xs)[0], "shape", ())) if jax.tree.leaves(xs) else ()
        self.add(Plan(layer._kind, shape, mode, why, None, granted or mode == self.mode))

    def input(self, layer: Layer, xs: Inputs) -> Inputs:
        """What goes into this layer, recorded if somebody asked for it."""
        if self.added is not None and (more := self.added.get(self._name)) is not None:
            if more.shape != xs.shape:
                raise ValueError(
                    f"spyx.nn.observe(added=): expected the shape of the input of layer {self._name}, with time first "
                    f"{xs.shape}; got {more.shape}. observe(what='inputs') has the inputs."
                )
            xs = xs.astype(more.dtype) + more
        if (
            self.tap is not None
            and "inputs" in self.tap.what
            and not layer.container
            and self.tap.takes(self._name, layer)
        ):
            self.seen[f"{self._name}.inputs"] = self._as_asked(xs)
        return xs

    def output(self, layer: Layer, outs: Outputs) -> None:
        """Record the output of this layer, if somebody asked for it."""
        if self.tap is not None and "outputs" in self.tap.what and self.tap.takes(self._name, layer):
            self.seen[self._name] = self._as_asked(outs)

    def watched(self, layer: Layer) -> Callable[[str], bool] | None:
        """Which state variables of this layer are asked for, by name; None if none can be."""
        if self.tap is None or set(self.tap.what) <= {"inputs", "outputs"} or not self.tap.takes(self._name, layer):
            return None
        what = self.tap.what
        return lambda name: "state" in what or name in what

    def states(self, states: Mapping[str, States]) -> None:
        """Record state variables over time, by name."""
        wanted = self.tap.what if self.tap is not None else ()
        for name, values in states.items():
            if "state" in wanted or name in wanted:
                self.seen[".".join((*self.path, name))] = self._as_asked(values)

    def _as_asked(self, values: Outputs) -> Outputs:
        """All of (time, batch, ...), or the sums over the batch."""
        if self.tap is None or not self.tap.summed:
            return values
        return jax.tree.map(lambda a: a.sum(1, dtype=jnp.float32), self.alive(values))

    def absorb(self, seen: Mapping[str, Tree]) -> None:
        """Take over what the body of a loop saw; the loop has stacked it along a new axis 0."""
        flat = {k: jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), v) for k, v in seen.items()}
        self.seen.update(flat if self.mask is None else {k: self._as_asked(v) for k, v in flat.items()})

    @property
    def _name(self) -> str:
        return ".".join(self.path)


Method = TypeVar("Method", bound=Callable[..., object])


def takes_masks(sequence: Method) -> Method:
    """Mark a layer's `sequence`, which leaves the state as it is where `how.mask` says that a step does not count.

    A subclass that writes a `sequence` of its own is not marked: with a mask it is called step by step.
    """
    sequence.takes_masks = True  # type: ignore[attr-defined]
    return sequence


AUTO = Execution()
"""The request of a run that asks for nothing."""


def check_granted(how: Execution) -> None:
    """A mode asked for by name that no layer can run in is an error, not another mode."""
    if how.mode not in (*PARALLEL, "fused") or how.recorder is None:
        return
    plans = how.recorder.plans.values()
    if any(plan.granted for plan in plans):
        return
    needs = "one that has a kernel"
    if how.mode in PARALLEL:
        needs = f"one with affine = {PARALLEL[how.mode][0]!r} that is local"
    reasons = "; ".join(dict.fromkeys(f"{plan.layer}: {plan.why}" for plan in plans)) or "no layer"
    raise ValueError(
        f"spyx.nn.run(mode={how.mode!r}): expected a neuron that can run so, {needs}; got a model without one "
        f"({reasons}). Use mode='layer'."
    )


def known_mode(mode: str) -> str:
    """The name of a mode, checked."""
    if mode not in MODES:
        raise ValueError(f"spyx.nn.run(mode=): expected one of {', '.join(MODES)}; got {mode!r}. Use 'auto'.")
    return mode
