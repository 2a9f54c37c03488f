"""The recordings of the NIR paper: one neuron in eleven simulators, a convolutional network, recurrent networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx import nn
from spyx.data import load
from spyx.graph import Graph

pytest.importorskip("nir")
from spyx.nir import from_nir  # noqa: E402

DT = 1e-4


@pytest.fixture(scope="module")
def paper(shared):
    folder = shared / "data" / "nir_paper"
    if not folder.is_dir():
        pytest.skip("no recordings of the NIR paper in the shared test data")
    return folder


def with_answer(model: Graph, node: str, delay: int, input_shape) -> Graph:
    edges = [*model.edges, (node, "tap", delay)]
    return Graph(dict(model.nodes), edges, merge="sum", outputs=("output", "tap"), input_shape=input_shape)


@pytest.mark.parametrize(
    ("integration", "spike", "steps"),
    [
        ("euler", "post", [460, 510, 710, 760]),
        ("euler", "pre", [461, 511, 711, 761]),
        ("exponential", "post", [450, 500, 710, 760]),
        ("exponential", "pre", [451, 501, 711, 761]),
    ],
)
def test_one_lif_spikes_when_the_paper_says(paper, integration, spike, steps):
    x = np.loadtxt(paper / "01_lif" / "lif_norse.csv", delimiter=",")[:, 0].astype(np.float32)
    model = from_nir(paper / "01_lif" / "lif_norse.nir", DT, integration=integration, spike=spike)
    out, _ = nn.run(model, x[None, :, None])
    assert np.nonzero(np.asarray(out)[0, :, 0])[0].tolist() == steps


def test_the_membrane_is_that_of_norse(paper):
    recorded = np.loadtxt(paper / "01_lif" / "lif_norse.csv", delimiter=",")
    model = from_nir(paper / "01_lif" / "lif_norse.nir", DT)
    x, state, membrane = recorded[:460, 0].astype(np.float32), model.initial_state(1), []
    step = jax.jit(lambda x, s: model(x, s))
    for value in x:
        _, state = step(jnp.full((1, 1), value), state)
        membrane.append(state.nodes["1"].item())
    np.testing.assert_allclose(membrane, recorded[:460, 1], atol=1e-7)


def test_the_file_of_rockpool_is_refused_with_the_node(paper):
    for dt in (DT, None):  # what is wrong with a file is said before anything is asked
        with pytest.raises(ValueError, match=r"'output' \(Output\): takes the shape \(1, 1, 1\), but \(1,\) comes in"):
            from_nir(paper / "01_lif" / "lif_rockpool.nir", dt)


@pytest.mark.parametrize(
    ("name", "reset", "spike", "who"),
    [("bias_zero", "zero", "post", "snntorch"), ("noBias_subtract", "subtract", "pre", "spyx")],
)
def test_recurrent_braille_network_in_every_cell(paper, name, reset, spike, who):
    folder = paper / "03_rnn"
    x = np.load(paper / "derived" / "braille_ds_test_0_input_recovered.npy").reshape(1, 256, 12).astype(np.float32)
    recorded = np.load(folder / f"{who}_activity_noDelay_{name}.npy").reshape(256, -1)
    model = from_nir(folder / f"braille_noDelay_{name}.nir", DT, reset=reset, spike=spike)
    out, _ = nn.run(with_answer(model, "lif1.lif", int(spike == "pre"), 12), x)
    assert recorded.sum() in (119, 120)
    np.testing.assert_array_equal(out["tap"][0], recorded)


def test_convolutional_network_counts_spikes_as_the_speck_chip(paper):
    with np.load(paper / "derived" / "cnn_numbers_rebuilt.npz") as file:
        x = np.moveaxis(np.moveaxis(file["x"], 0, 1), 2, -1).astype(np.float32)
    chip = np.load(paper / "02_cnn" / "speck_activity.npy")[0]
    options = dict(reset="subtract", multi_spike=True, v_min=-1.0)
    model = from_nir(paper / "02_cnn" / "cnn_sinabs.nir", 1.0, **options)
    first = {name: model.nodes[name] for name in ("0", "1")}
    layer = Graph(first, [("input", "0"), ("0", "1"), ("1", "output")], input_shape=(34, 34, 2))
    out, _ = nn.run(layer, x)
    counts = np.moveaxis(np.asarray(out.sum(1)), -1, 1)
    agreement = [np.corrcoef(counts[k].ravel(), chip[k].ravel())[0, 1] for k in range(10)]
    assert min(agreement) >= 0.996


def test_convolutional_network_reads_digits(paper, shared):
    part = load("nmnist", root=shared / "data" / "nmnist_small.zip").test
    model = from_nir(paper / "02_cnn" / "cnn_sinabs.nir", 1.0, reset="subtract", multi_spike=True, v_min=-1.0)
    run = jax.jit(lambda x: nn.run(model, x)[0].sum(1).argmax(-1))
    right = 0
    for start in range(0, 100, 25):
        frames = [binned(part.x[k]) for k in range(start, start + 25)]
        labels = part.y[start : start + 25]
        right += int((np.asarray(run(jnp.asarray(np.stack(frames)))) == labels).sum())
    assert right / 100 >= 0.95


def binned(events, steps: int = 320) -> np.ndarray:
    """Spikes per millisecond, pixel and polarity."""
    frames = np.zeros((steps, 34, 34, 2), np.float32)
    time = np.minimum((np.asarray(events.t, np.int64) - int(events.t[0])) // 1000, steps - 1)
    np.add.at(frames, (time, events.y, events.x, np.asarray(events.p).astype(int)), 1.0)
    return frames
