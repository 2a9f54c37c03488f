"""Networks of the zoo: cards that are complete, weights that are those of the card, scores that come out again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cli.conftest import spyx
from spyx import data, nn, zoo
from spyx.zoo import _shelf

FILES = {
    "braille": "braille.npz",
    "nmnist": "nmnist_small.zip",
    "spoken_digits": "fsdd.zip",
    "qtdb_ecg": "qtdb_ecg",
}
WANTED = {
    "all_seeds", "cost", "data", "encoder", "energy_estimates", "intended_use", "label_per_step", "labels", "model",
    "name", "score", "seed", "settings", "weights",
}  # fmt: skip


def data_of(name: str, shared: Path) -> list[str]:
    """The options that name the data of a network; skips where they are absent."""
    file = FILES.get(zoo.card(name)["data"]["name"])
    if file is None:
        return []
    if not (shared / "data" / file).exists():
        pytest.skip(f"no {file} in the shared test data")
    return ["--data", str(shared / "data" / file)]


def test_all_weights_together_stay_small():
    assert zoo.names()
    assert sum(path.stat().st_size for path in _shelf.SHELF.iterdir()) < 5 * 2**20


@pytest.mark.parametrize("name", zoo.names())
def test_a_card_is_complete_and_its_network_takes_what_its_encoder_gives(name):
    trained = zoo.load(name)
    assert set(trained.card) == WANTED
    assert trained.card["data"]["licence"]
    features = trained.model.layers[0]
    width = int(np.prod(features.shape)) if isinstance(features, nn.Unflatten) else features.kernel.shape[0]
    out, _ = nn.run(trained.model, jnp.zeros((1, 3, width)))
    assert out.shape == (1, 3, len(trained.labels))
    assert not any("/" in str(line) for line in trained.card["settings"].splitlines() if line.startswith("data "))


@pytest.mark.parametrize("name", zoo.names())
def test_the_score_of_a_card_comes_out_again(name, shared, tmp_path):
    result = spyx("zoo", "eval", name, "--json", *data_of(name, shared), "--cache", tmp_path)
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["same"] else 1)
    # Exact on the kind of CPU that made the card; other vector units round otherwise, which may move one answer.
    one = 1.01 / found["samples"]
    assert found["test_accuracy"] == pytest.approx(zoo.card(name)["score"]["test_accuracy"], abs=one)
    assert found["samples"] == zoo.card(name)["score"]["test_samples"]


def test_the_encoder_of_a_card_is_that_of_the_run():
    trained, digits = zoo.load("digits-lif"), data.load("digits").test
    out, _ = nn.run(trained.model, trained.encoder(digits.x))
    right = np.asarray(out.sum(axis=1).argmax(axis=-1)) == digits.y
    assert right.mean() == pytest.approx(trained.card["score"]["test_accuracy"], abs=1e-6)


def test_a_wrong_name_and_weights_that_were_changed_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"expected one of .*; got 'digits-lief'. Did you mean digits-lif"):
        zoo.load("digits-lief")
    for path in _shelf.SHELF.glob("digits-lif.*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(_shelf, "SHELF", tmp_path)
    content = bytearray((tmp_path / "digits-lif.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "digits-lif.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="expected weights of SHA-256"):
        zoo.load("digits-lif")
    assert "expected weights of SHA-256" in spyx("zoo", "eval", "digits-lif").stderr


def test_encoders_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"spyx.zoo.ValueEncoder\(name=\): expected one of latency"):
        zoo.ValueEncoder("delta", 3, series=False)
    with pytest.raises(ValueError, match="expected a key for the rate code"):
        zoo.ValueEncoder("rate", 3, series=False)(jnp.ones((1, 2)))
    assert zoo.ValueEncoder("delta", 3, series=True)(jnp.ones((1, 5, 2))).shape[:2] == (1, 5)
    frames = zoo.FrameEncoder(data.Raster(num_bins=2), (3, 4))
    assert frames(data.Events(t=[0, 9], x=[0, 2], y=[0, 3], p=[0, 1])).shape == (1, 2, 24)


def test_list_and_export_and_an_honest_refusal(tmp_path):
    listed = json.loads(spyx("zoo", "list", "--json").stdout)
    assert [card["name"] for card in listed] == zoo.names()
    assert "digits-lif" in spyx("zoo", "list").stdout
    refused = spyx("zoo", "export", "randman-csilif", tmp_path / "a.nir")
    assert refused.exit_code == 2
    assert "randman-csilif cannot be written as a NIR graph" in refused.stderr
    assert not (tmp_path / "a.nir").exists()
    assert "unknown" in spyx("zoo", "lst").stderr
