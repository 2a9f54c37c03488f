"""NIR's neurons, exactly: its own parameters, one `step` each. They spike from the updated membrane, within the step.

The output of a neuron that shall spike "pre" is the same output one step later; a graph says that with a delay of 1 on
the edges that leave it. A derivative `dv/dt` becomes one Euler step, or its leak the exact exponential decay.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.engine import Params
from spyx.nir.meaning import AFTER_LEAK, Meaning
from spyx.nn import Constant, Neuron

TRAINED = ("tau", "tau_mem", "tau_syn")


class NIRNeuron(Neuron):
    """Base of NIR's neurons: holds NIR's parameters under their names and derives the rates per step from them.

    Args:
        meaning: the time step, integration and reset.
        parameters: NIR's arrays, all of one shape; time constants train, the rest is constant.
    """

    def __init__(self, meaning: Meaning, **parameters: Any) -> None:
        first = next(iter(parameters.values()))
        super().__init__(tuple(np.shape(first)))
        self.dt, self.integration, self.reset = float(meaning.dt), meaning.integration, meaning.reset
        self.multi_spike, self.v_min = meaning.multi_spike, meaning.v_min
        for name, value in parameters.items():
            kind = nnx.Param if name in TRAINED else Constant
            setattr(self, name, kind(jnp.asarray(value, jnp.float32)))

    def params(self) -> Params:
        """NIR's parameters and the rates per step, once per sequence."""
        p = super().params()
        arrays = {name: getattr(p, name) for name in p._names}
        return Params({**arrays, **self.rates(p)}, dict(p._static))

    def rates(self, p: Any) -> dict[str, Any]:
        """What `step` reads beyond NIR's own parameters."""
        return {"gain": p.r * p.dt}

    def leaked(self, tau: Any) -> Any:
        """The part of the distance to rest that is lost per step."""
        return self.dt / tau if self.integration == "euler" else -jnp.expm1(-self.dt / tau)

    def jump(self, p: Any, kept: Any) -> Any:
        """What a subtractive reset takes off the membrane."""
        return p.v_threshold / kept if self.reset == AFTER_LEAK else p.v_threshold - p.v_reset


def fire(p: Any, v: Any) -> tuple[Any, Any]:
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
    """NIR's integrator `I`: `v' = v + dt r x`; the output is `v'`, it answers this step's input.

    Args:
        meaning: time step.
        r: resistance, per unit.

    Shapes:
        x, state v: (batch, *r.shape).

    Example:
        >>> layer = NIRI(Meaning(0.5), r=np.ones(1))
        >>> layer(jnp.ones((1, 1)), layer.initial_state(1))[0].item()
        0.5

    Reference:
        Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
    """

    affine = "always"

    def __init__(self, meaning: Meaning, r: Any) -> None:
        super().__init__(meaning, r=r)

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
        v = v + p.gain * x
        return v, v


class NIRIF(NIRNeuron):
    """NIR's `IF`: `v' = v + dt r x`, `z = H(v' - v_threshold)`, then the reset. It answers this step's input.

    Args:
        meaning: time step and reset.
        r: resistance, per unit.
        v_threshold: firing threshold.
        v_reset: membrane after a spike.

    Shapes:
        x, state v: (batch, *r.shape) -> spikes of that shape.

    Example:
        >>> layer = NIRIF(Meaning(1.0), np.ones(1), np.ones(1), np.zeros(1))
        >>> z, v = layer(jnp.full((1, 1), 1.5), layer.initial_state(1))
        >>> z.item(), v.item()
        (1.0, 0.0)

    Reference:
        Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
    """

    affine = "given_spikes"

    def __init__(self, meaning: Meaning, r: Any, v_threshold: Any, v_reset: Any) -> None:
        super().__init__(meaning, r=r, v_threshold=v_threshold, v_reset=v_reset)

    def rates(self, p: Any) -> dict[str, Any]:
        return {"gain": p.r * p.dt, "jump": self.jump(p, 1.0)}

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
        return fire(p, v + p.gain * x)


class NIRLI(NIRNeuron):
    """NIR's `LI`: `v' = v + dt/tau (v_leak - v + r x)`; the output is `v'`, it answers this step's input.

    Args:
        meaning: time step and integration.
        tau: time constant, per unit, in the unit of `dt`; trained.
        r: resistance.
        v_leak: membrane at rest.

    Shapes:
        x, state v: (batch, *tau.shape).

    Example:
        >>> layer = NIRLI(Meaning(1.0), tau=np.full(1, 4.0), r=np.ones(1), v_leak=np.ones(1))
        >>> layer(jnp.ones((1, 1)), layer.initial_state(1))[0].item()
        0.5

    Reference:
        Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
    """

    affine = "always"

    def __init__(self, meaning: Meaning, tau: Any, r: Any, v_leak: Any) -> None:
        super().__init__(meaning, tau=tau, r=r, v_leak=v_leak)

    def rates(self, p: Any) -> dict[str, Any]:
        return {"leak": self.leaked(p.tau), "gain": p.r * (p.dt / p.tau)}

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
        v = v + p.leak * (p.v_leak - v) + p.gain * x
        return v, v


class NIRLIF(NIRNeuron):
    """NIR's `LIF`: `v' = v + dt/tau (v_leak - v + r x)`, `z = H(v' - v_threshold)`, then the reset.

    It answers this step's input.

    Args:
        meaning: time step, integration and reset.
        tau: time constant, per unit, in the unit of `dt`; trained.
        r: resistance.
        v_leak: membrane at rest.
        v_threshold: firing threshold.
        v_reset: membrane after a spike.

    Shapes:
        x, state v: (batch, *tau.shape) -> spikes of that shape.

    Example:
        >>> one = np.ones(1)
        >>> layer = NIRLIF(Meaning(1.0), tau=2 * one, r=4 * one, v_leak=0 * one, v_threshold=one, v_reset=-one)
        >>> z, v = layer(jnp.ones((1, 1)), layer.initial_state(1))
        >>> z.item(), v.item()
        (1.0, -1.0)

    Reference:
        Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
    """

    affine = "given_spikes"

    def __init__(self, meaning: Meaning, tau: Any, r: Any, v_leak: Any, v_threshold: Any, v_reset: Any) -> None:
        super().__init__(meaning, tau=tau, r=r, v_leak=v_leak, v_threshold=v_threshold, v_reset=v_reset)

    def rates(self, p: Any) -> dict[str, Any]:
        leak = self.leaked(p.tau)
        return {"leak": leak, "gain": p.r * (p.dt / p.tau), "jump": self.jump(p, 1 - leak)}

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
        return fire(p, v + p.leak * (p.v_leak - v) + p.gain * x)


class NIRCubaLI(NIRNeuron):
    """NIR's `CubaLI`: `i' = i + dt/tau_syn (w_in x - i)`, `v' = v + dt/tau_mem (v_leak - v + r i')`; output `v'`.

    It answers this step's input.

    Args:
        meaning: time step and integration.
        tau_syn: time constant of the synapse, per unit; trained.
        tau_mem: time constant of the membrane; trained.
        r: resistance.
        v_leak: membrane at rest.
        w_in: weight of the input.

    Shapes:
        x: (batch, *tau_mem.shape); state `NIRCubaLI.State(v, i)`, each of that shape.

    Example:
        >>> one = np.ones(1)
        >>> layer = NIRCubaLI(Meaning(1.0), tau_syn=2 * one, tau_mem=2 * one, r=one, v_leak=0 * one, w_in=4 * one)
        >>> layer(jnp.ones((1, 1)), layer.initial_state(1))[0].item()
        1.0

    Reference:
        Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
    """

    state = dict(v=0.0, i=0.0)
    affine = "always"

    def __init__(self, meaning: Meaning, tau_syn: Any, tau_mem: Any, r: Any, v_leak: Any, w_in: Any) -> None:
        super().__init__(meaning, tau_syn=tau_syn, tau_mem=tau_mem, r=r, v_leak=v_leak, w_in=w_in)

    def rates(self, p: Any) -> dict[str, Any]:
        return _two_rates(self, p)

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        i = s.i - p.leak_syn * s.i + p.gain_syn * x
        v = s.v + p.leak * (p.v_leak - s.v) + p.gain * i
        return v, NIRCubaLI.State(v=v, i=i)


class NIRCubaLIF(NIRNeuron):
    """NIR's `CubaLIF`: `CubaLI` whose membrane spikes, `z = H(v' - v_threshold)`, and then resets.

    `i' = i + dt/tau_syn (w_in x - i)`, `v' = v + dt/tau_mem (v_leak - v + r i')`: the membrane sees the new current,
    as the recordings of the NIR paper do. It answers this step's input.

    Args:
        meaning: time step, integration and reset.
        tau_syn: time constant of the synapse, per unit; trained.
        tau_mem: time constant of the membrane; trained.
        r: resistance.
        v_leak: membrane at rest.
        v_threshold: firing threshold.
        v_reset: membrane after a spike.
        w_in: weight of the input.

    Shapes:
        x: (batch, *tau_mem.shape) -> spikes; state `NIRCubaLIF.State(v, i)`, each of that shape.

    Example:
        >>> one, zero = np.ones(1), np.zeros(1)
        >>> layer = NIRCubaLIF(Meaning(1.0), 2 * one, 2 * one, one, zero, 0.5 * one, zero, 4 * one)
        >>> z, s = layer(jnp.ones((1, 1)), layer.initial_state(1))
        >>> z.item(), s.v.item(), s.i.item()
        (1.0, 0.0, 2.0)

    Reference:
        Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
    """

    state = dict(v=0.0, i=0.0)
    affine = "given_spikes"

    def __init__(
        self,
        meaning: Meaning,
        tau_syn: Any,
        tau_mem: Any,
        r: Any,
        v_leak: Any,
        v_threshold: Any,
        v_reset: Any,
        w_in: Any,
    ) -> None:
        super().__init__(
            meaning,
            tau_syn=tau_syn,
            tau_mem=tau_mem,
            r=r,
            v_leak=v_leak,
            v_threshold=v_threshold,
            v_reset=v_reset,
            w_in=w_in,
        )

    def rates(self, p: Any) -> dict[str, Any]:
        rates = _two_rates(self, p)
        return {**rates, "jump": self.jump(p, 1 - rates["leak"])}

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        i = s.i - p.leak_syn * s.i + p.gain_syn * x
        z, v = fire(p, s.v + p.leak * (p.v_leak - s.v) + p.gain * i)
        return z, NIRCubaLIF.State(v=v, i=i)


def _two_rates(neuron: NIRNeuron, p: Any) -> dict[str, Any]:
    return {
        "leak": neuron.leaked(p.tau_mem),
        "leak_syn": neuron.leaked(p.tau_syn),
        "gain": p.r * (p.dt / p.tau_mem),
        "gain_syn": p.w_in * (p.dt / p.tau_syn),
    }
