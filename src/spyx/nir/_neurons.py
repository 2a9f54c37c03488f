"""NIR's neurons, exactly: its own parameters, one `step` each. They spike from the updated membrane, within the step.

The output of a neuron that spikes "pre" is the same output one step later; a graph says that with a delay of 1 on the
edges that leave it. A derivative `dv/dt` becomes one Euler step, or its leak the exact exponential decay.

Constructor, `Args` and `Reference` of every neuron are made of the arrays of its node.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx.engine import Params
from spyx.nir._discrete import AFTER_LEAK, TIMES, Meaning
from spyx.nir._flat import PER_UNIT
from spyx.nn import Constant, Neuron

ARGUMENTS = {
    "meaning": "time step, integration and reset.",
    "tau": "time constant, per unit, in the unit of `dt`; trained.",
    "tau_syn": "time constant of the synapse, per unit, in the unit of `dt`; trained.",
    "tau_mem": "time constant of the membrane, per unit, in the unit of `dt`; trained.",
    "r": "resistance, per unit.",
    "v_leak": "membrane at rest, per unit.",
    "v_threshold": "firing threshold, per unit.",
    "v_reset": "membrane after a spike, per unit.",
    "w_in": "weight of the input, per unit.",
}


class Two(NamedTuple):
    """The state of a neuron with a membrane and a current."""

    v: jax.Array
    i: jax.Array


class NIRNeuron(Neuron):
    """Base of NIR's neurons: holds NIR's parameters under their names; `derive` makes the rates per step of them.

    Args:
        meaning: the time step, integration and reset.
        parameters: NIR's arrays, all of one shape; time constants train, the rest is constant.
    """

    node: ClassVar[type[nir.NIRNode]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names = ("meaning", *PER_UNIT[cls.node])
        cls.__init__ = _constructor(names)  # type: ignore[method-assign]
        cls.__signature__ = inspect.Signature(list(inspect.signature(cls.__init__).parameters.values())[1:])  # type: ignore[attr-defined]
        arguments = "".join(f"    {name}: {ARGUMENTS[name]}\n" for name in names)
        cls.__doc__ = (
            inspect.cleandoc(cls.__doc__ or "").replace("Shapes:", f"Args:\n{arguments}\nShapes:", 1)
            + "\n\nReference:\n    Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.\n"
        )

    def __init__(self, meaning: Meaning, **parameters: jax.Array | np.ndarray) -> None:
        first = next(iter(parameters.values()))
        super().__init__(tuple(np.shape(first)))
        self.dt, self.integration, self.reset = float(meaning.dt), meaning.integration, meaning.reset
        self.multi_spike, self.v_min = meaning.multi_spike, meaning.v_min
        for name, value in parameters.items():
            kind = nnx.Param if name in TIMES else Constant
            setattr(self, name, kind(jnp.asarray(value, jnp.float32)))

    @staticmethod
    def derive(p: Params) -> dict[str, jax.Array]:
        """Leak, gain and subtractive reset per step."""
        tau = p.tau_mem if "tau_mem" in p._names else p.tau if "tau" in p._names else None
        rates = {"gain": p.r * (p.dt if tau is None else p.dt / tau)}
        if tau is not None:
            rates["leak"] = leaked(p, tau)
        if "tau_syn" in p._names:
            rates |= {"leak_syn": leaked(p, p.tau_syn), "gain_syn": p.w_in * (p.dt / p.tau_syn)}
        if "v_threshold" in p._names:
            rates["jump"] = p.v_threshold - p.v_reset
            if p.reset == AFTER_LEAK:
                rates["jump"] = p.v_threshold / (1 - rates.get("leak", 0.0))
        return rates


def _constructor(names: tuple[str, ...]) -> Callable[..., None]:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    takes = inspect.Signature([inspect.Parameter(name, kind) for name in ("self", *names)])

    def __init__(*args: object, **kwargs: object) -> None:
        NIRNeuron.__init__(**takes.bind(*args, **kwargs).arguments)

    __init__.__signature__ = takes  # type: ignore[attr-defined]
    __init__.derived = True  # type: ignore[attr-defined]
    return __init__


def leaked(p: Params, tau: jax.Array) -> jax.Array:
    """The part of the distance to rest that is lost per step."""
    return p.dt / tau if p.integration == "euler" else -jnp.expm1(-p.dt / tau)


def fire(p: Params, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Spikes of an updated membrane, and the membrane after its reset."""
    z = p.spike(v - p.v_threshold)
    if p.multi_spike:
        several = jnp.ceil(v / p.v_threshold) - 1
        z = jnp.where(several > 1, z * several, z)
    if p.reset == "nir":
        v = v + jnp.minimum(z, 1) * (p.v_reset - v) if p.multi_spike else v + z * (p.v_reset - v)
    elif p.reset == "zero":
        v = v - jnp.minimum(z, 1) * v if p.multi_spike else v - z * v
    else:
        v = v - z * p.jump
    return z, v if p.v_min is None else jnp.maximum(v, p.v_min)


class NIRI(NIRNeuron):
    """NIR's integrator `I`: `v' = v + dt r x`; the output is this step's `v'`.

    Shapes:
        x, state v: (batch, *r.shape).

    Example:
        >>> layer = NIRI(Meaning(0.5), r=np.ones(1))
        >>> layer(jnp.ones((1, 1)), layer.initial_state(1))[0].item()
        0.5
    """

    node = nir.I
    affine = "always"

    @staticmethod
    def step(p: Params, x: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        v = v + p.gain * x
        return v, v


class NIRIF(NIRNeuron):
    """NIR's `IF`: `v' = v + dt r x`, `z = H(v' - v_threshold)`, then the reset.

    The output is that of this step's input.

    Shapes:
        x, state v: (batch, *r.shape) -> spikes of that shape.

    Example:
        >>> layer = NIRIF(Meaning(1.0), np.ones(1), np.ones(1), np.zeros(1))
        >>> z, v = layer(jnp.full((1, 1), 1.5), layer.initial_state(1))
        >>> z.item(), v.item()
        (1.0, 0.0)
    """

    node = nir.IF
    affine = "given_spikes"

    @staticmethod
    def step(p: Params, x: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return fire(p, v + p.gain * x)


class NIRLI(NIRNeuron):
    """NIR's `LI`: `v' = v + dt/tau (v_leak - v + r x)`; the output is this step's `v'`.

    Shapes:
        x, state v: (batch, *tau.shape).

    Example:
        >>> layer = NIRLI(Meaning(1.0), tau=np.full(1, 4.0), r=np.ones(1), v_leak=np.ones(1))
        >>> layer(jnp.ones((1, 1)), layer.initial_state(1))[0].item()
        0.5
    """

    node = nir.LI
    affine = "always"

    @staticmethod
    def step(p: Params, x: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        v = v + p.leak * (p.v_leak - v) + p.gain * x
        return v, v


class NIRLIF(NIRNeuron):
    """NIR's `LIF`: `v' = v + dt/tau (v_leak - v + r x)`, `z = H(v' - v_threshold)`, then the reset.

    The output is that of this step's input.

    Shapes:
        x, state v: (batch, *tau.shape) -> spikes of that shape.

    Example:
        >>> one = np.ones(1)
        >>> layer = NIRLIF(Meaning(1.0), tau=2 * one, r=4 * one, v_leak=0 * one, v_threshold=one, v_reset=-one)
        >>> z, v = layer(jnp.ones((1, 1)), layer.initial_state(1))
        >>> z.item(), v.item()
        (1.0, -1.0)
    """

    node = nir.LIF
    affine = "given_spikes"

    @staticmethod
    def step(p: Params, x: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return fire(p, v + p.leak * (p.v_leak - v) + p.gain * x)


class NIRCubaLI(NIRNeuron):
    """NIR's `CubaLI`: `i' = i + dt/tau_syn (w_in x - i)`, `v' = v + dt/tau_mem (v_leak - v + r i')`; output `v'`.

    The output is that of this step's input.

    Shapes:
        x: (batch, *tau_mem.shape); state `NIRCubaLI.State(v, i)`, each of that shape.

    Example:
        >>> one = np.ones(1)
        >>> layer = NIRCubaLI(Meaning(1.0), tau_syn=2 * one, tau_mem=2 * one, r=one, v_leak=0 * one, w_in=4 * one)
        >>> layer(jnp.ones((1, 1)), layer.initial_state(1))[0].item()
        1.0
    """

    node = nir.CubaLI
    state = dict(v=0.0, i=0.0)
    affine = "always"

    @staticmethod
    def step(p: Params, x: jax.Array, s: Two) -> tuple[jax.Array, Two]:
        i = s.i - p.leak_syn * s.i + p.gain_syn * x
        v = s.v + p.leak * (p.v_leak - s.v) + p.gain * i
        return v, s._replace(v=v, i=i)


class NIRCubaLIF(NIRNeuron):
    """NIR's `CubaLIF`: `CubaLI` whose membrane spikes, `z = H(v' - v_threshold)`, and then resets.

    `i' = i + dt/tau_syn (w_in x - i)`, `v' = v + dt/tau_mem (v_leak - v + r i')`: the membrane sees the new current,
    as the recordings of the NIR paper do. The output is that of this step's input.

    Shapes:
        x: (batch, *tau_mem.shape) -> spikes; state `NIRCubaLIF.State(v, i)`, each of that shape.

    Example:
        >>> one, zero = np.ones(1), np.zeros(1)
        >>> layer = NIRCubaLIF(Meaning(1.0), 2 * one, 2 * one, one, zero, 0.5 * one, zero, 4 * one)
        >>> z, s = layer(jnp.ones((1, 1)), layer.initial_state(1))
        >>> z.item(), s.v.item(), s.i.item()
        (1.0, 0.0, 2.0)
    """

    node = nir.CubaLIF
    state = dict(v=0.0, i=0.0)
    affine = "given_spikes"

    @staticmethod
    def step(p: Params, x: jax.Array, s: Two) -> tuple[jax.Array, Two]:
        i = s.i - p.leak_syn * s.i + p.gain_syn * x
        z, v = fire(p, s.v + p.leak * (p.v_leak - s.v) + p.gain * i)
        return z, s._replace(v=v, i=i)
