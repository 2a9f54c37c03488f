"""The networks and the data that every library is measured on. Needs NumPy alone: every environment imports it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

BETA = 0.9
"""Membrane decay per step of every neuron, the readout included."""

LEARNING_RATE = 1e-3

NEURONS = ("lif", "cubalif", "alif", "user")
"""What can stand in the place of LIF; only ours and Spyx 1.0 have all four."""


@dataclass(frozen=True)
class Dense:
    inputs: int
    outputs: int


@dataclass(frozen=True)
class DelayedDense(Dense):
    """A delay for every weight, learned, from 0 to `lags` - 1 steps; Gaussian kernels of half that width."""

    lags: int

    def delays(self) -> np.ndarray:
        """Where they start: (in, out), float32."""
        longest = self.lags - 1
        return np.random.default_rng(2).uniform(0, longest, (self.inputs, self.outputs)).astype(np.float32)


@dataclass(frozen=True)
class Conv:
    """No padding, stride 1."""

    inputs: int
    outputs: int
    size: int


@dataclass(frozen=True)
class Pool:
    """Sum over `size` x `size` tiles, or the average where a library has no sum."""

    size: int


@dataclass(frozen=True)
class Flatten:
    pass


@dataclass(frozen=True)
class Spiking:
    """`shape` is channels-last."""

    shape: tuple[int, ...]
    recurrent: bool = False


@dataclass(frozen=True)
class Readout:
    """A leaky integrator that never spikes; its output is summed over time into logits."""

    classes: int


Layer = Dense | Conv | Pool | Flatten | Spiking | Readout


@dataclass(frozen=True)
class Workload:
    """A network, the size of its input, and the neuron in it.

    Args:
        name: as on the command line.
        steps: time steps.
        batch: samples.
        features: shape of one time step of one sample, channels last.
        layers: the network.
        neuron: one of `NEURONS`.
    """

    name: str
    steps: int
    batch: int
    features: tuple[int, ...]
    layers: tuple[Layer, ...]
    neuron: str = "lif"

    @property
    def delayed(self) -> bool:
        """Delays are learned."""
        return any(isinstance(layer, DelayedDense) for layer in self.layers)

    @property
    def classes(self) -> int:
        return self.layers[-1].classes

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Input (time, batch, *features), float32, 5 % ones; labels (batch,), int32."""
        rng = np.random.default_rng(0)
        x = rng.random((self.steps, self.batch, *self.features), dtype=np.float32) < 0.05
        return x.astype(np.float32), rng.integers(0, self.classes, self.batch).astype(np.int32)

    def weights(self, gain: float = 1.0, averaged: bool = False) -> list[np.ndarray | None]:
        """One array per layer, None for a layer without: (in, out), (height, width, in, out) or recurrent (n, n).

        Args:
            gain: for libraries that scale a neuron's input down.
            averaged: for libraries whose pools average: the weights behind a pool grow, so that as many spikes follow.
        """
        rng = np.random.default_rng(1)
        arrays: list[np.ndarray | None] = []
        pooled = 1
        for layer in self.layers:
            shape, fan_in = None, 1.0
            if isinstance(layer, Pool) and averaged:
                pooled = layer.size**2
            if isinstance(layer, Dense):
                # A kernel that spreads a spike over many steps lowers its peak: more weight, so that spikes follow.
                fan_in = layer.inputs / 4 if isinstance(layer, DelayedDense) else layer.inputs
                shape = layer.inputs, layer.outputs
            elif isinstance(layer, Conv):
                shape = (layer.size, layer.size, layer.inputs, layer.outputs)
                fan_in = layer.size**2 * layer.inputs
            elif isinstance(layer, Spiking) and layer.recurrent:
                shape, fan_in = (*layer.shape, *layer.shape), 10_000
            arrays.append(None if shape is None else gain * pooled * _normal(rng, shape, fan_in))
            pooled = pooled if shape is None else 1
        return arrays


def _normal(rng: np.random.Generator, shape: tuple[int, ...], fan_in: float) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def dense(name: str, steps: int, batch: int, *sizes: int, recurrent: bool = False, lags: int = 1) -> Workload:
    """Linear, LIF, ..., Linear, LI over `sizes`; with several lags, the delays are learned."""
    layers: list[Layer] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        product = Dense(inputs, outputs) if lags == 1 else DelayedDense(inputs, outputs, lags)
        layers += [product, Spiking((outputs,), recurrent)]
    return Workload(name, steps, batch, sizes[:1], (*layers[:-1], Readout(sizes[-1])))


_CONVOLUTIONAL = (
    Conv(2, 12, 5),
    Spiking((30, 30, 12)),
    Pool(2),
    Conv(12, 32, 5),
    Spiking((11, 11, 32)),
    Pool(2),
    Flatten(),
    Dense(800, 10),
    Readout(10),
)

WORKLOADS = {
    workload.name: workload
    for workload in (
        dense("W1", 100, 64, 700, 512, 512, 20),
        dense("W2", 100, 64, 700, 256, 20, recurrent=True),
        dense("W3", 1024, 32, 128, 128, 20),
        Workload("W4", 20, 16, (34, 34, 2), _CONVOLUTIONAL),
        *(dense(f"W5-T{steps}", steps, 32, 128, 128, 20) for steps in (128, 512, 2048, 8192)),
        *(dense(f"W5-N{width}", 100, 16, width, width, 20) for width in (128, 512, 2048, 4096)),
        dense("W6", 100, 128, 140, 256, 256, 20, lags=25),
        dense("small", 10, 4, 30, 20, 5),
        dense("small-recurrent", 10, 4, 30, 20, 5, recurrent=True),
        dense("small-delayed", 10, 4, 30, 20, 5, lags=5),
    )
}
"""By name. `small...` only prove that a library runs."""

DEFAULT = ("W1", "W2", "W3", "W4")


def named(names: list[str], neuron: str = "lif") -> list[Workload]:
    """Workloads by name; "W5" is all of W5. Another neuron goes into the name: "W1-alif"."""
    found = []
    for name in names:
        matches = [key for key in WORKLOADS if key == name or (name == "W5" and key.startswith("W5-"))]
        if not matches:
            raise ValueError(f"benchmarks: expected workloads among {', '.join(WORKLOADS)}; got {name!r}.")
        found += matches
    workloads = [WORKLOADS[key] for key in found]
    return workloads if neuron == "lif" else [replace(w, name=f"{w.name}-{neuron}", neuron=neuron) for w in workloads]
