"""What the differential test runs: every local neuron of the library, recurrences of every kind, and users' neurons.

A `Subject` says how a layer is made, which modes it must be able to run in, and, where the library derives its step or
is not a `Neuron`, a step that is typed here once more. Everything is small: what matters is that the numbers agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import axn, experimental, nn

UNITS = (3,)
MAP = (2, 2, 2)
LOOPS = frozenset({"auto", "layer", "step"})
SPIKING = LOOPS | {"fixed_point", "fused"}
LINEAR = LOOPS | {"parallel", "fused"}
FUSED = LOOPS | {"fused"}


@dataclass(frozen=True)
class Subject:
    """One layer of the list.

    Args:
        name: unique.
        build: `() -> layer`.
        modes: those that it runs in for float32 input and state, on a CPU with the extra cpu.
        step: `layer -> step(p, x, s)`, written independently; None is the layer's own step.
        binary: its outputs are 0 and 1.
        scale: size of the input.
        tolerance: factor on every tolerance, for equations that magnify rounding.
        trains: it has parameters.
        half: its variables fit into float16.
    """

    name: str
    build: Callable[[], Any]
    modes: frozenset[str] = field(default=SPIKING)
    step: Callable[[Any], Callable[..., Any]] | None = None
    binary: bool = True
    scale: float = 1.5
    tolerance: float = 1.0
    trains: bool = True
    half: bool = True


# References for what the library derives


def fed_back(inner: Any, connection: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """The step with the current `x + connection(layer, p, z)`, z from the membrane before this step."""

    def of(layer: Any) -> Any:
        local = inner(layer)

        def step(p: Any, x: Any, s: Any) -> Any:
            z, _ = local(p, jnp.zeros_like(x), s)
            return local(p, x + connection(layer, p, z), s)

        return step

    return of


def fed_back_late(inner: Any, connection: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """The step with the current `x + connection(layer, p, z)`, z from the step before, which the state holds."""

    def of(layer: Any) -> Any:
        local = inner(layer)
        names = tuple(layer.neuron.state)

        def step(p: Any, x: Any, s: Any) -> Any:
            before = layer.neuron.State(*s[:-1]) if len(names) > 1 else s[0]
            out, after = local(p, x + connection(layer, p, s[-1]), before)
            return out, type(s)(*(after if len(names) > 1 else (after,)), out)

        return step

    return of


def fed_back_itself(inner: Any, connection: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """`fed_back_late` for a class of one variable that is recurrent itself."""

    def of(layer: Any) -> Any:
        local = inner(layer)

        def step(p: Any, x: Any, s: Any) -> Any:
            out, v = local(p, x + connection(layer, p, s.z), s.v)
            return out, type(s)(v, out)

        return step

    return of


def resting(layer: Any) -> Callable[..., Any]:
    """An ALIF that fires after the update and is reset to zero; two steps of rest after a spike."""

    def step(p: Any, x: Any, s: Any) -> Any:
        u = p.beta * s.v + (1 - p.beta) * x
        awake = s.wait < 0.5
        z = jnp.where(awake, p.spike(u - (p.threshold + p.adaptation * s.a)), jnp.zeros_like(u))
        v = jnp.where(awake, (1 - jax.lax.stop_gradient(z)) * u, s.v)
        wait = jnp.where(z == 1, 2 * jnp.ones_like(u), jnp.maximum(s.wait - 1, jnp.zeros_like(u)))
        return z, s._replace(v=v, a=p.gamma * s.a + (1 - p.gamma) * z, wait=wait)

    return step


def refractory() -> nn.Refractory:
    return nn.Refractory(nn.ALIF(UNITS, rngs=rngs(), dynamics="paper"), 2)


def recurrent_of_paper() -> nn.RLIF:
    return nn.RLIF(UNITS, rngs=rngs(), recurrent_init=_normal, dynamics="paper")


def of_class(cls: Any) -> Any:
    return lambda layer: cls.step


def dense(layer: Any, p: Any, z: Any) -> Any:
    units = z[0].size
    w = p.recurrent_w.reshape(units, units)
    return (z.reshape(-1, units) @ w).reshape(z.shape)


def linear(layer: Any, p: Any, z: Any) -> Any:
    return z @ layer.via.kernel[...].astype(z.dtype) + layer.via.bias[...].astype(z.dtype)[None]


def masked(layer: Any, p: Any, z: Any) -> Any:
    return z @ (layer.via.weight[...].astype(z.dtype) * jnp.asarray(MASK).astype(z.dtype))


def rolled(z: Any) -> Any:
    return 0.4 * jnp.roll(z, 1, axis=-1)


def by_function(layer: Any, p: Any, z: Any) -> Any:
    return jnp.stack([0.4 * z[..., -1], *(0.4 * z[..., i] for i in range(z.shape[-1] - 1))], axis=-1)


def convolved(layer: Any, p: Any, z: Any) -> Any:
    """A 3 x 3 convolution with a border of zeros, as a sum over shifts."""
    kernel = layer.via.kernel[...].astype(z.dtype)
    padded = jnp.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = z.shape[1:3]
    terms = [padded[:, i : i + rows, j : j + columns] @ kernel[i, j] for i in range(3) for j in range(3)]
    return sum(terms[1:], terms[0]) + layer.via.bias[...].astype(z.dtype).reshape(1, 1, 1, -1)


def sliding(layer: Any) -> Any:
    def step(p: Any, x: Any, s: Any) -> Any:
        weight, threshold = (a[...].astype(x.dtype) for a in (layer.weight, layer.threshold))
        seen = [*(s[:, i] for i in range(s.shape[1])), x]
        terms = [(weight[i][None] if weight.ndim > 1 else weight[i]) * a for i, a in enumerate(seen)]
        return p.spike(sum(terms[1:], terms[0]) - threshold), jnp.stack(seen[1:], axis=1)

    return step


MASK = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 0]], bool)


class MaskedDense(nnx.Module):
    """A connection without self-connections; the mask is an array of NumPy, stored as it is."""

    def __init__(self, units: int, rngs: nnx.Rngs) -> None:
        self.weight = nnx.Param(0.5 * jax.random.normal(rngs.params(), (units, units)))
        self.mask = MASK

    def __call__(self, z: Any) -> Any:
        return z @ jnp.where(self.mask, self.weight[...], jnp.zeros_like(self.weight[...]))


# Users' neurons


class Branches(nn.Neuron):
    """Two slopes of a leak, chosen by `jnp.where`."""

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape, axn.triangular())
        self.low, self.high = nnx.Param(jnp.float32(0.5)), nnx.Param(jnp.full(self.hidden_shape, 0.9))

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - 1.0)
        leak = jnp.where(v < 0.0, p.low * v, p.high * v)
        return z, leak + jnp.where(x > 0.0, x, 0.5 * x) - z


class Cases(nn.Neuron):
    """One of three leaks, by `lax.select_n`; continuous where they meet."""

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        self.beta = nnx.Param(jnp.full(self.hidden_shape, 0.8))

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - 1.0)
        which = (v > -1.0).astype(jnp.int32) + (v > 1.0).astype(jnp.int32)
        leak = jax.lax.select_n(which, p.beta * (0.5 * v - 0.5), p.beta * v, p.beta * (0.5 * v + 0.5))
        return z, leak + x - z


class Switched(nn.Neuron):
    """One of three functions for every unit, by `vmap(lax.switch)`; continuous where they meet."""

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape, axn.arctan())
        self.beta = nnx.Param(jnp.float32(0.7))

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        def lower(u: Any) -> Any:
            return 0.5 * u - 0.5

        def middle(u: Any) -> Any:
            return u

        def upper(u: Any) -> Any:
            return jnp.sin(u - 1.0) + 1.0

        def unit(u: Any) -> Any:
            which = (u > -1.0).astype(jnp.int32) + (u > 1.0).astype(jnp.int32)
            return jax.lax.switch(which, (lower, middle, upper), u)

        z = p.spike(v - 1.0)
        return z, p.beta * jax.vmap(jax.vmap(unit))(v) + x - z


class Refractory(nn.Neuron):
    """A counter of integers holds the membrane for two steps after a spike."""

    state = dict(v=0.0, wait=0.0)

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        self.beta = nnx.Param(jnp.full(self.hidden_shape, 0.8))

    def initial_state(self, batch_size: int, dtype: Any = jnp.float32) -> Any:
        rest = super().initial_state(batch_size, dtype)
        return rest._replace(wait=jnp.zeros(rest.wait.shape, jnp.int32))

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> Any:
        z = p.spike(s.v - 1.0) * (s.wait == 0).astype(x.dtype)
        v = p.beta * s.v + jnp.where(s.wait > 0, 0.1 * x, x) - z
        wait = jnp.where(z > 0, jnp.full_like(s.wait, 2), jnp.maximum(s.wait - 1, 0))
        return z, s._replace(v=v, wait=wait)


class BoolMask(nn.Neuron):
    """Some units never leak; the mask is an array of bools."""

    affine = "given_spikes"

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        self.beta = nnx.Param(jnp.full(self.hidden_shape, 0.8))
        self.leaks = np.arange(self.hidden_shape[0]) % 2 == 0

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - 1.0)
        return z, jnp.where(p.leaks, p.beta * v, v) + x - z


class IntMask(nn.Neuron):
    """Some units never fire; the mask is an array of integers."""

    affine = "given_spikes"

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        self.beta = nnx.Param(jnp.float32(0.8))
        self.fires = jnp.arange(self.hidden_shape[0]) % 2

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - 1.0) * p.fires.astype(x.dtype)
        return z, p.beta * v + x - z


class ThreeStates(nn.Neuron):
    """A synapse, a membrane and an adaptation."""

    state = dict(v=0.0, i=0.0, a=0.1)
    affine = "given_spikes"
    clipped = ("alpha",)

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        self.alpha, self.beta = nnx.Param(jnp.full(self.hidden_shape, 0.4)), nnx.Param(jnp.float32(0.8))
        self.gamma, self.size = 0.9, nnx.Param(jnp.full(self.hidden_shape, 0.3))

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> Any:
        z = p.spike(s.v - s.a - 1.0)
        i = p.alpha * s.i + x
        return z, s._replace(v=p.beta * s.v + i - z, i=i, a=p.gamma * s.a + p.size * z)


def over_number(leak: float) -> Any:
    """A class whose step closes over a number of Python."""

    class OverNumber(nn.Neuron):
        affine = "given_spikes"

        @staticmethod
        def step(p: Any, x: Any, v: Any) -> Any:
            z = p.spike(v - 1.0)
            return z, leak * v + x - z

    return OverNumber


def over_array(leak: np.ndarray) -> Any:
    """A class whose step closes over an array of NumPy."""

    class OverArray(nn.Neuron):
        affine = "given_spikes"

        @staticmethod
        def step(p: Any, x: Any, v: Any) -> Any:
            z = p.spike(v - 1.0)
            return z, jnp.asarray(leak).astype(x.dtype)[None] * v + x - z

    return OverArray


class OwnWeight(nn.Neuron):
    """A step that reads its own weight `recurrent_w`, masked, without self-connections, or symmetric."""

    local = False

    def __init__(self, hidden_shape: Any, kind: str) -> None:
        super().__init__(hidden_shape)
        units = self.hidden_shape[0]
        self.recurrent_w = nnx.Param(0.5 * jax.random.normal(jax.random.key(3), (units, units)))
        self.beta, self.mask, self.kind = nnx.Param(jnp.float32(0.8)), MASK.astype(np.int32), kind

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - 1.0)
        w = p.recurrent_w
        if p.kind == "masked":
            w = w * p.mask.astype(w.dtype)
        elif p.kind == "without_self":
            w = w * (1 - jnp.eye(w.shape[0], dtype=w.dtype))
        else:
            w = 0.5 * (w + w.T)
        return z, p.beta * v + x + z @ w - z


class TwoWeights(nn.Neuron):
    """Two weights in one step: one for spikes, one for the membrane."""

    local = False

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        units = self.hidden_shape[0]
        keys = jax.random.split(jax.random.key(4))
        self.fast, self.slow = (nnx.Param(0.3 * jax.random.normal(k, (units, units))) for k in keys)

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - 1.0)
        return z, 0.5 * v + x + z @ p.fast + jnp.tanh(v) @ p.slow - z


class Quantised(nn.Neuron):
    """The new membrane is rounded through bfloat16."""

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        self.beta = nnx.Param(jnp.full(self.hidden_shape, 0.8))

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - 1.0)
        return z, (p.beta * v + x - z).astype(jnp.bfloat16).astype(x.dtype)


class Threshold(nn.Neuron):
    """A trainable threshold, one number for all units."""

    affine = "given_spikes"

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape, axn.sigmoid())
        self.threshold = nnx.Param(jnp.float32(0.8))

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - p.threshold)
        return z, 0.7 * v + x - z * p.threshold


class HardReset(nn.Neuron):
    """Spikes from the updated membrane, which a spike sets back to a trainable value."""

    affine = "given_spikes"

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        self.beta, self.reset = nnx.Param(jnp.float32(0.8)), nnx.Param(jnp.full(self.hidden_shape, -0.3))

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        v = p.beta * v + x
        z = p.spike(v - 1.0)
        return z, v + z * (p.reset - v)


class AdEx(nn.Neuron):
    """Brette and Gerstner 2005, doi:10.1152/jn.00686.2005; v in mV, far from zero at rest."""

    state = dict(v=-70.6, w=0.0)

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape)
        self.rest, self.jump = nnx.Param(jnp.float32(-70.6)), nnx.Param(jnp.full(self.hidden_shape, 0.5))

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> Any:
        z = p.spike((s.v + 45.0) * 0.1)
        rise = 2.0 * jnp.exp(jnp.minimum((s.v + 50.4) * 0.5, 2.0))
        v = s.v + 0.2 * (p.rest - s.v + rise - s.w) + x
        w = s.w + 0.1 * (0.4 * (s.v - p.rest) - s.w)
        return z, s._replace(v=v + z * (p.rest - v), w=w + z * p.jump)


@jax.custom_jvp
def own_spike(u: Any) -> Any:
    """A surrogate that uses nothing of the library."""
    return (u > 0).astype(u.dtype)


@own_spike.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (u,), (t,) = primals, tangents
    return own_spike(u), t / (1 + 4 * u**2)


class OwnSurrogate(nn.Neuron):
    """A leaky neuron whose surrogate is a `jax.custom_jvp`."""

    affine = "given_spikes"

    def __init__(self, hidden_shape: Any) -> None:
        super().__init__(hidden_shape, own_spike)
        self.beta = nnx.Param(jnp.full(self.hidden_shape, 0.8))

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> Any:
        z = p.spike(v - 1.0)
        return z, p.beta * v + x - z


def rngs() -> nnx.Rngs:
    return nnx.Rngs(0)


_normal = nnx.initializers.normal(0.5)
_decays = jnp.array([0.5, 0.8, 0.95], jnp.float32)


def _recurrent(cls: Any) -> Subject:
    name = "R" + cls.__name__
    return Subject(
        name,
        lambda: getattr(nn, name)(UNITS, recurrent_init=_normal, rngs=rngs()),
        FUSED,
        fed_back(of_class(cls), dense),
    )


def _own_weight(kind: str) -> Subject:
    return Subject(f"OwnWeight-{kind}", lambda: OwnWeight(UNITS, kind), LOOPS)


SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in [
        Subject("IF", lambda: nn.IF(UNITS), trains=False),
        Subject("LIF", lambda: nn.LIF(UNITS, beta=_decays)),
        Subject("LIF-shared", lambda: nn.LIF(UNITS, beta=0.8, threshold=jnp.array([0.8, 1.0, 1.2]))),
        Subject("LIF-map", lambda: nn.LIF(MAP, rngs=rngs(), activation=axn.arctan())),
        Subject("LI", lambda: nn.LI(UNITS), LINEAR, binary=False),
        Subject("ALIF", lambda: nn.ALIF(UNITS, rngs=rngs(), adaptation=0.7)),
        Subject("CuBaLIF", lambda: nn.CuBaLIF(UNITS, rngs=rngs())),
        _recurrent(nn.IF),
        _recurrent(nn.LIF),
        _recurrent(nn.ALIF),
        _recurrent(nn.CuBaLIF),
        Subject(
            "RLIF-map",
            lambda: nn.RLIF(MAP, rngs=rngs(), recurrent_init=_normal),
            FUSED,
            fed_back(of_class(nn.LIF), dense),
        ),
        Subject(
            "Recurrent-dense",
            lambda: nn.Recurrent(nn.ALIF(UNITS, rngs=rngs()), recurrent_init=_normal, rngs=rngs()),
            FUSED,
            fed_back(of_class(nn.ALIF), dense),
        ),
        Subject(
            "Recurrent-masked",
            lambda: nn.Recurrent(nn.LIF(UNITS, beta=0.8), via=MaskedDense(3, rngs())),
            LOOPS,
            fed_back(of_class(nn.LIF), masked),
        ),
        Subject(
            "Recurrent-linear",
            lambda: nn.Recurrent(nn.CuBaLIF(UNITS, rngs=rngs()), via=nnx.Linear(3, 3, rngs=rngs())),
            LOOPS,
            fed_back(of_class(nn.CuBaLIF), linear),
        ),
        Subject(
            "Recurrent-function",
            lambda: nn.Recurrent(nn.LIF(UNITS, beta=_decays), via=rolled),
            LOOPS,
            fed_back(of_class(nn.LIF), by_function),
        ),
        Subject(
            "Recurrent-late",
            lambda: nn.Recurrent(experimental.AssociativeLIF(UNITS, beta=0.7), recurrent_init=_normal, rngs=rngs()),
            FUSED,
            fed_back_late(of_class(experimental.AssociativeLIF), dense),
        ),
        Subject(
            "Recurrent-resonate",
            lambda: nn.Recurrent(experimental.ResonateFire(UNITS, rngs=rngs()), recurrent_init=_normal, rngs=rngs()),
            FUSED,
            fed_back(of_class(experimental.ResonateFire), dense),
        ),
        Subject(
            "Recurrent-late-two-states",
            lambda: nn.Recurrent(experimental.PSU_LIF(UNITS, beta=_decays), recurrent_init=_normal, rngs=rngs()),
            FUSED,
            fed_back_late(of_class(experimental.PSU_LIF), dense),
        ),
        Subject(
            "Recurrent-late-linear",
            lambda: nn.Recurrent(HardReset(UNITS), via=nnx.Linear(3, 3, rngs=rngs())),
            LOOPS,
            fed_back_late(of_class(HardReset), linear),
        ),
        Subject(
            "Recurrent-conv",
            lambda: nn.Recurrent(nn.LIF(MAP, beta=0.8), via=nn.Conv(2, 2, (3, 3), rngs=rngs())),
            LOOPS,
            fed_back(of_class(nn.LIF), convolved),
        ),
        Subject("LIF-paper", lambda: nn.LIF(UNITS, beta=_decays, dynamics="paper", threshold=nn.positive(0.8))),
        Subject("LIF-snntorch", lambda: nn.LIF(UNITS, beta=nn.decay(0.8, by="sigmoid"), dynamics="snntorch")),
        Subject("LIF-no-reset", lambda: nn.LIF(UNITS, beta=_decays, dynamics=nn.Dynamics("after", "none")), LINEAR),
        Subject("ALIF-sinabs", lambda: nn.ALIF(UNITS, rngs=rngs(), dynamics="sinabs")),
        Subject("CuBaLIF-snntorch", lambda: nn.CuBaLIF(UNITS, rngs=rngs(), dynamics="snntorch")),
        Subject("RLIF-paper", recurrent_of_paper, FUSED, fed_back_itself(of_class(nn.LIF), dense)),
        Subject("Refractory", refractory, FUSED, resting),
        Subject("adLIF", lambda: nn.adLIF(UNITS, rngs=rngs()), scale=30.0),
        Subject("EFadLIF", lambda: nn.EFadLIF(UNITS, rngs=rngs()), scale=30.0, tolerance=2.0),  # q = 120 times rounding
        Subject("cAdLIF", lambda: nn.cAdLIF(UNITS, rngs=rngs()), scale=4.0),
        Subject("SiLIF", lambda: nn.SiLIF(UNITS, rngs=rngs()), scale=4.0),
        Subject("CSiLIF", lambda: nn.CSiLIF(UNITS, rngs=rngs())),
        Subject("BRF", lambda: nn.BRF(UNITS, rngs=rngs()), FUSED, scale=100.0),
        Subject("PLIF", lambda: nn.PLIF(UNITS)),
        Subject("GLIF", lambda: nn.GLIF(UNITS, rngs=rngs())),
        Subject("TCLIF", lambda: nn.TCLIF(UNITS)),
        Subject("Dendrites", lambda: nn.Dendrites(UNITS, rngs=rngs()), LINEAR, binary=False),
        Subject("Izhikevich", lambda: nn.Izhikevich(UNITS), FUSED, scale=20.0, tolerance=4.0, trains=False),
        # Its upswing passes e^35 before a spike.
        Subject("AdEx-library", lambda: nn.AdEx(UNITS), FUSED, scale=1e5, tolerance=4.0, trains=False, half=False),
        Subject("SigmaDelta", lambda: nn.SigmaDelta(UNITS), FUSED, binary=False),
        Subject("AssociativeLIF", lambda: experimental.AssociativeLIF(UNITS, beta=_decays), LINEAR),
        Subject("ResonateFire", lambda: experimental.ResonateFire(UNITS, rngs=rngs())),
        Subject(
            "AssociativeResonateFire",
            lambda: experimental.AssociativeResonateFire(UNITS, rngs=rngs()),
            LINEAR,
            tolerance=2.0,
        ),
        Subject("PSU_LIF", lambda: experimental.PSU_LIF(UNITS, beta=_decays), LINEAR),
        Subject("SlidingPSN", lambda: experimental.SlidingPSN(UNITS, order=3), LOOPS | {"parallel"}, sliding),
        Subject("ChannelPSN", lambda: experimental.ChannelPSN(UNITS, order=3), LOOPS | {"parallel"}, sliding),
        Subject("Branches", lambda: Branches(UNITS), FUSED),
        Subject("Cases", lambda: Cases(UNITS), FUSED),
        Subject("Switched", lambda: Switched(UNITS), FUSED),
        Subject("Refractory", lambda: Refractory(UNITS), LOOPS),
        Subject("BoolMask", lambda: BoolMask(UNITS), LOOPS),
        Subject("IntMask", lambda: IntMask(UNITS), LOOPS),
        Subject("ThreeStates", lambda: ThreeStates(UNITS)),
        Subject("OverNumber", lambda: OverNumber(UNITS), trains=False),
        Subject("OverArray", lambda: OverArray(UNITS), LOOPS | {"fixed_point"}, trains=False),
        _own_weight("masked"),
        _own_weight("without_self"),
        _own_weight("symmetric"),
        Subject("TwoWeights", lambda: TwoWeights(UNITS), LOOPS),
        Subject("Quantised", lambda: Quantised(UNITS), LOOPS),
        Subject("Threshold", lambda: Threshold(UNITS)),
        Subject("HardReset", lambda: HardReset(UNITS)),
        Subject("AdEx", lambda: AdEx(UNITS), FUSED, scale=8.0, tolerance=4.0),
        Subject("OwnSurrogate", lambda: OwnSurrogate(UNITS)),
    ]
}


OverNumber = over_number(0.75)
OverArray = over_array(np.array([0.5, 0.7, 0.9], np.float32))
