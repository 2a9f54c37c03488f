"""The benchmark's own files: networks that fit together, and a file per library that compiles. Nothing is timed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PEERS = sorted((REPOSITORY / "benchmarks" / "peers").glob("*.py"))


def _module(name: str):
    """A file of the benchmark, which is not installed and not on the path of the tests."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", REPOSITORY / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


workloads = _module("workloads")


def _after(layer, shape):
    """The shape of one sample's features behind a layer; fails where the layer does not fit."""
    if isinstance(layer, workloads.Dense):
        assert shape == (layer.inputs,)
        return (layer.outputs,)
    if isinstance(layer, workloads.Conv):
        assert shape[2] == layer.inputs
        return (shape[0] - layer.size + 1, shape[1] - layer.size + 1, layer.outputs)
    if isinstance(layer, workloads.Pool):
        return (shape[0] // layer.size, shape[1] // layer.size, shape[2])
    if isinstance(layer, workloads.Flatten):
        return (int(np.prod(shape)),)
    assert shape == (layer.shape if isinstance(layer, workloads.Spiking) else (layer.classes,))
    return shape


@pytest.mark.parametrize("workload", workloads.WORKLOADS.values(), ids=lambda workload: workload.name)
def test_layers_of_a_workload_fit_together(workload):
    shape = workload.features
    for layer in workload.layers:
        shape = _after(layer, shape)
    assert shape == (workload.classes,)


@pytest.mark.parametrize("name", workloads.DEFAULT)
def test_input_is_the_stated_size_and_five_percent_ones(name):
    workload = workloads.WORKLOADS[name]
    x, labels = workload.data()
    assert x.shape == (workload.steps, workload.batch, *workload.features)
    assert set(np.unique(x)) == {0.0, 1.0}
    assert abs(x.mean() - 0.05) < 0.002
    assert labels.shape == (workload.batch,)
    assert labels.max() < workload.classes


def test_weights_are_one_array_for_every_layer_that_has_some():
    weights = workloads.WORKLOADS["W4"].weights()
    assert [None if w is None else w.shape for w in weights] == [
        (5, 5, 2, 12), None, None, (5, 5, 12, 32), None, None, None, (800, 10), None,
    ]  # fmt: skip
    grown = workloads.WORKLOADS["W4"].weights(averaged=True)
    assert np.array_equal(grown[3], 4 * weights[3])
    assert np.array_equal(grown[0], weights[0])


def test_names_and_neurons():
    assert [workload.name for workload in workloads.named(["W1", "W3"], "alif")] == ["W1-alif", "W3-alif"]
    assert len(workloads.named(["W5"])) == 8
    with pytest.raises(ValueError, match=r"benchmarks: expected workloads among .*; got 'W9'"):
        workloads.named(["W9"])


@pytest.mark.parametrize("file", PEERS, ids=lambda file: file.stem)
def test_every_library_file_compiles(file):
    compile(file.read_text(), str(file), "exec")


def test_requirements_are_pins_without_addresses():
    files = sorted((REPOSITORY / "benchmarks" / "peers" / "requirements").glob("*.txt"))
    assert files
    for file in files:
        assert file.with_suffix("").name in {peer.stem for peer in PEERS}
        assert all("==" in line and "/" not in line for line in file.read_text().split())
