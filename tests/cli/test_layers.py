"""What the table [layers] puts into a network, and the augmentations and splits that came with it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cli.conftest import spyx
from spyx import data, nn
from spyx.cli import inputs, make_network
from spyx.cli.config import Config, LayersTable, make_config
from spyx.cli.errors import UserError


def kinds(layers: LayersTable, frame: tuple[int, ...], **more: object) -> list[str]:
    config = Config(layers=layers, **{"hidden": (6,), **more})
    model = make_network.make_network(config, int(np.prod(frame)), 3, frame)
    out, _ = nn.run(model, jnp.ones((2, 4, int(np.prod(frame)))))
    assert out.shape == (2, 4, 3)
    return [type(layer).__name__ for layer in model.layers]


def test_convolutions_normalisation_dropout_and_recurrence():
    assert kinds(LayersTable(conv=(2, 4), norm="batch", dropout=0.1, recurrent=True), (8, 9, 2)) == [
        "Unflatten", *["Conv", "BatchNorm", "LIF", "SumPool"] * 2, "Flatten", "Dropout",
        "Linear", "BatchNorm", "Recurrent", "Dropout", "Linear", "LI",
    ]  # fmt: skip
    assert kinds(LayersTable(conv=(2,)), (8,))[:4] == ["Unflatten", "Conv", "LIF", "SumPool"]
    assert kinds(LayersTable(recurrent_delays=3), (5,), neuron="CSiLIF", delays=2)[:2] == ["Delayed", "Recurrent"]
    assert kinds(LayersTable(), (5,)) == ["Linear", "LIF", "Linear", "LI"]


def test_a_gain_scales_weights_and_the_recurrence_is_orthogonal():
    plain, louder = (
        make_network.make_network(Config(hidden=(6,), layers=LayersTable(gain=gain, recurrent=True)), 5, 2).layers
        for gain in (1.0, 3.0)
    )
    np.testing.assert_allclose(louder[0].kernel[...], 3 * plain[0].kernel[...], rtol=1e-6)
    square = np.asarray(plain[1].recurrent_w[...])
    np.testing.assert_allclose(square @ square.T, np.eye(6), atol=1e-5)


def test_a_pool_that_leaves_nothing_and_a_neuron_that_cannot_be_fed_back_are_refused():
    with pytest.raises(UserError, match="leave nothing of frames of shape"):
        make_network.make_network(Config(layers=LayersTable(conv=(2, 2, 2))), 32, 3, (4, 4, 2))
    with pytest.raises(UserError, match=r"layers\.recurrent: RLIF cannot be fed back"):
        make_network.check_names(Config(neuron="RLIF", layers=LayersTable(recurrent=True)))


def test_the_table_is_written_and_read_again_and_its_mistakes_are_named(tmp_path):
    config = Config(layers=LayersTable(conv=(3,), norm="batch", recurrent=True))
    (tmp_path / "a.toml").write_text(config.to_toml())
    assert make_config(tmp_path / "a.toml", {}) == config
    (tmp_path / "b.toml").write_text('[layers]\nnorm = "layer"\nrecurrent = 1\nconv = [0]\ndropout = 1.0\n')
    message = spyx("train", "--config", tmp_path / "b.toml").stderr
    for words in ("layers.norm: expected one of none, batch", "layers.recurrent: expected true or false", "layers.conv",
                  "layers.dropout: expected a number from 0 to 0.99"):  # fmt: skip
        assert words in message


def test_settings_of_other_data_are_refused():
    with pytest.raises(UserError, match="every sample of digits has a label"):
        inputs.check_names(Config(unlabelled="class 0"))
    with pytest.raises(UserError, match="expected --hold-out-speaker NAME with it"):
        inputs.check_names(Config(dataset="spoken_digits", data="x", validation_speaker="theo"))


def test_a_convolutional_run_learns_and_is_scored_again(tmp_path):
    (tmp_path / "a.toml").write_text(
        'hidden = [16]\nepochs = 3\nencoder = "direct"\nsteps = 4\nbatch_size = 128\nreadout = "mean"\n'
        '[layers]\nconv = [4]\nnorm = "batch"\ndropout = 0.1\n'
    )
    result = spyx("train", "--config", tmp_path / "a.toml", "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    printed = next(line for line in result.stdout.splitlines() if line.startswith("test accuracy")).split()[-1]
    assert float(printed.rstrip("%")) > 25  # chance is 10
    assert printed in spyx("eval", tmp_path / "run").stdout
    assert "has convolutions" in spyx("nir", "convert", tmp_path / "run", tmp_path / "a.nir").stderr


def test_stretching_moves_spikes_by_a_factor_that_stays_in_its_range():
    x = jnp.zeros((64, 100, 2)).at[:, 40].set(1.0)
    moved = np.asarray(data.stretch(0.25)(x, jax.random.key(0)))
    where = np.array([np.flatnonzero(sample[:, 0]).mean() for sample in moved if sample.any()])
    assert where.min() >= 40 / 1.25 - 1
    assert where.max() <= 40 * 1.25 + 1
    assert where.max() - where.min() > 10
    assert len(np.unique(where)) > 5
    np.testing.assert_array_equal(data.stretch(0.0, axis=2)(x, jax.random.key(0)), x)
    with pytest.raises(ValueError, match="expected most >= 0"):
        data.stretch(-0.1)


def test_unflatten_undoes_flatten_and_refuses_other_sizes():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(nn.Unflatten((3, 4))(nn.Flatten()(x)), x)
    assert isinstance(nn.Unflatten([3, 4]), nnx.Module)
    with pytest.raises(ValueError, match=r"spyx.nn.Unflatten: expected input of shape \(batch, 12\)"):
        nn.Unflatten((3, 4))(jnp.ones((2, 13)))
