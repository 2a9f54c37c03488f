"""`Dynamics`: the conventions of integrate-and-fire neurons that libraries and papers differ in, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import jax.numpy as jnp

from spyx.engine.derivative import Changes, Rule, call
from spyx.nn._fields import Field

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, ArrayLike, Shaped

    from spyx.axn import Activation
    from spyx.engine.derivative import Arguments, Tangents
    from spyx.engine.types import Tree, Units

CHOICES = {"spike": ("before", "after"), "reset": ("subtract", "zero", "none"), "gain": ("one", "complement")}


@dataclass(frozen=True)
class Dynamics:
    """How an integrate-and-fire neuron fires, resets and takes its input; the defaults are Spyx's.

    With the leaky membrane `u(v) = beta v + g x`, `z = H(u(v) - threshold)` where the spike comes after the update, and
    `z = H(v - threshold)` where it comes before. The reset takes the threshold away, `v' = u - z threshold`, or all of
    the membrane, `v' = (1 - z) u`; before the update, the membrane that fired is emptied, `v' = u((1 - z) v)`.

    Args:
        spike: "before" fires from the membrane before this step's update, so that the spike depends on the inputs up to
            the step before. "after" fires from the updated membrane: no latency.
        reset: "subtract" takes the threshold away, "zero" empties the membrane, "none" leaves it.
        detach_reset: no gradient flows through the spike of the reset.
        gain: of the input: "one", or "complement" for `1 - beta`.
        delayed: with "after", the reset happens at the start of the next step, as in snnTorch; the spike of the reset
            is found again from the stored membrane.
        loses_input: with a delayed reset to zero, the input of the step that resets is lost too, as in snnTorch's
            RLeaky and Synaptic; its Leaky keeps it.

    Raises:
        ValueError: a choice that is none of these; `delayed` without "after"; `loses_input` without a delayed "zero".

    Example:
        >>> from spyx import nn
        >>> lif = nn.LIF(1, beta=0.5, dynamics=Dynamics(spike="after", reset="zero"))
        >>> z, v = lif(jnp.array([[3.0]]), lif.initial_state(1))
        >>> z.item(), v.item()
        (1.0, 0.0)
    """

    spike: str = "before"
    reset: str = "subtract"
    detach_reset: bool = False
    gain: str = "one"
    delayed: bool = False
    loses_input: bool = False

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"spyx.nn.Dynamics({name}=): expected one of {', '.join(known)}; got {getattr(self, name)!r}. "
                    f"The default is {known[0]!r}."
                )
        if self.delayed and self.spike != "after":
            raise ValueError(
                "spyx.nn.Dynamics(delayed=True): expected spike='after'; got spike='before'. Before the update a reset "
                "is never late."
            )
        if self.loses_input and not (self.delayed and self.reset == "zero"):
            raise ValueError(
                f"spyx.nn.Dynamics(loses_input=True): expected delayed=True and reset='zero'; got delayed="
                f"{self.delayed} and reset={self.reset!r}. Leave it out."
            )

    @classmethod
    def preset(cls, name: str, **changes: str | bool) -> Dynamics:
        """The dynamics of a library, or of the papers: what `dynamics="snntorch"` means.

        Args:
            name: "spyx", "snntorch" (Leaky), "spikingjelly" (LIFNode), "norse" (LIFBoxCell), "sinabs" (LIF), or "paper"
                (fires after the update, hard detached reset, gain `1 - beta`).
            changes: fields that are to differ.

        Raises:
            ValueError: a name that is none of these.

        Example:
            >>> Dynamics.preset("spikingjelly", gain="one").reset
            'zero'
        """
        if name not in PRESETS:
            raise ValueError(
                f"spyx.nn.Dynamics.preset: expected one of {', '.join(PRESETS)}; got {name!r}. Or pass a Dynamics."
            )
        return replace(PRESETS[name], **changes)

    def scaled(self, x: Units, beta: ArrayLike) -> Units:
        """The input times its gain."""
        return x if self.gain == "one" else (1 - beta) * x  # type: ignore[return-value]

    def fire(
        self,
        spike: Activation,
        v: Units,
        threshold: ArrayLike,
        update: Callable[[Units], Units],
        *,
        inside: bool = False,
    ) -> tuple[Units, Units]:
        """Spikes and new membrane of one step.

        Args:
            spike: the activation.
            v: membrane before the step.
            threshold: where it fires, and what "subtract" takes away.
            update: the membrane after leak and input, from the one before.
            inside: a spike before the update takes the threshold away inside the leak.
        """
        if self.spike == "after" and not self.delayed:
            u = update(v)
            z = spike(u - threshold)
            return z, self._emptied(u, self._held(z), threshold)
        z = spike(v - threshold)
        fired = self._held(z)
        if inside or (self.reset == "zero" and not self.loses_input):
            u = update(self._emptied(v, fired, threshold))
        else:
            u = self._emptied(update(v), fired, threshold)
        return (z if self.spike == "before" else spike(u - threshold)), u

    def _emptied(self, v: Units, z: Units, threshold: ArrayLike) -> Units:
        if self.reset == "none":
            return v
        return v - z * threshold if self.reset == "subtract" else (1 - z) * v

    def _held(self, z: Units) -> Units:
        return detached(z) if self.detach_reset else z


PRESETS = {
    "spyx": Dynamics(),
    "snntorch": Dynamics("after", detach_reset=True, delayed=True),
    "spikingjelly": Dynamics("after", "zero", gain="complement"),
    "norse": Dynamics("after", "zero", gain="complement"),
    "sinabs": Dynamics("after", gain="complement"),
    "paper": Dynamics("after", "zero", detach_reset=True, gain="complement"),
}


@dataclass(frozen=True)
class Detached(Rule):
    """The identity without a derivative, in a form that kernels can hold."""

    def forward(self, x: Array) -> Array:
        return x

    def jvp(self, args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[Tree, Changes]:
        return call(self, *args), [jnp.zeros_like(args[0])]


def detached(x: Shaped[ArrayLike, "*shape"]) -> Shaped[Array, "*shape"]:
    """`x` as a constant: no gradient flows through it. Unlike `jax.lax.stop_gradient` it runs in every mode.

    Args:
        x: any array.

    Example:
        >>> import jax
        >>> float(jax.grad(lambda x: x * detached(x))(3.0))
        3.0
    """
    return call(Detached(), jnp.asarray(x))


@dataclass(frozen=True)
class DynamicsField(Field):
    """The `dynamics` of a neuron.

    Args:
        leaks: the neuron has a leak, whose complement a gain can be.
        delays: a delayed reset has a meaning.
    """

    default: str | Dynamics = "spyx"
    doc: str = "`Dynamics`: when it fires, how it resets, its input gain. Or a name of `Dynamics.preset`."
    keyword: bool = True
    leaks: bool = True
    delays: bool = True

    def make(
        self, owner: str, name: str, value: str | Dynamics, shape: tuple[int, ...], rngs: nnx.Rngs | None
    ) -> Dynamics:
        if isinstance(value, str):
            value = Dynamics.preset(value)
            value = value if self.leaks else replace(value, gain="one")
        if not isinstance(value, Dynamics):
            raise TypeError(
                f"{owner}(dynamics=): expected a Dynamics or a name of one ({', '.join(PRESETS)}); got {value!r}. "
                "For example dynamics='paper'."
            )
        if value.gain == "complement" and not self.leaks:
            raise ValueError(f"{owner}(dynamics=): expected gain='one', there is no leak; got 'complement'. Drop it.")
        if value.delayed and not self.delays:
            raise ValueError(
                f"{owner}(dynamics=): expected delayed=False: when the reset comes, the threshold is another one; got "
                "delayed=True. Use Dynamics(spike='after')."
            )
        return value


Value = TypeVar("Value")


class PerInstance(Generic[Value]):
    """A class attribute with another value for some instances.

    Args:
        plain: the value on the class.
        of: the value for an instance.
    """

    def __init__(self, plain: Value, of: Callable[[Any], Value]) -> None:
        self.plain = plain
        self.of = of

    def __get__(self, instance: object, owner: type) -> Value:
        return self.plain if instance is None else self.of(instance)


RESET_FREE: Any = PerInstance(
    "given_spikes", lambda neuron: "always" if neuron.dynamics.reset == "none" else "given_spikes"
)
"""The trait `affine` of a neuron whose state depends on its spikes through the reset alone."""
