"""Data sets and losses of the user's own, settings of the optimiser, several seeds, and the record of a run."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cli.conftest import spyx
from spyx import fn, nn
from spyx.cli import inputs, make_solver, progress, score
from spyx.cli.config import Config, make_config
from spyx.cli.errors import UserError
from spyx.cli.provenance import digest
from spyx.cli.seeds import parsed
from spyx.optimize._solver import Objective

MINE = """
import numpy as np
from spyx import fn, nn

def load(root=None):
    rng = np.random.default_rng(0)
    def part(n):
        y = rng.integers(0, 3, n)
        on = np.where(np.arange(6) % 3 == y[:, None], 0.6, 0.1)
        return (rng.random((n, 5, 6)) < on[:, None]).astype(np.uint8), y
    return {"train": part(40), "validation": part(12), "test": part(9)}

def nothing():
    return {"train": 1}

def broken():
    raise RuntimeError("no such disk")

def loss(model, x, y):
    return fn.integral_crossentropy()(nn.run(model, x)[0], y)
"""
SETTINGS = """
average = 0.5
precision = "bfloat16"
accumulate = 2
clip = 1.0
"""
TINY = ("--epochs", "2", "--hidden", "4", "--batch-size", "8")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with the module `mine_NAME`, in which commands are given; its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MINE)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    yield name
    sys.modules.pop(name, None)


def rows_of(table):
    return list(csv.DictReader(table.read_text().splitlines()))


def test_a_data_set_and_a_loss_of_your_own_are_trained_scored_and_recorded(mine, tmp_path):
    own = ("--dataset", f"{mine}:load", "--loss", f"{mine}:loss")
    result = spyx("train", *own, *TINY, "--config", "settings.toml", "--output", "run")
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["samples"] == {"train": 40, "validation": 12, "test": 9}
    assert record["time_steps"] == record["mean_time_steps"] == 5
    assert record["parameters"] == (6 * 4 + 4) + 1 + (4 * 3 + 3) + 1
    assert record["versions"]["jax"] == jax.__version__
    assert record["command"].split()[0] == "spyx"  # what follows is how the tests were started
    assert len(record["data_sha256"]) == 64
    assert set(record["seconds"]) == {
        "loading", "framing", "encoding", "compiling", "training", "scoring", "drawing", "diagnosing",
        "writing the page",
    }  # fmt: skip
    shown = spyx("eval", "run", "--dataset", own[1], "--json")
    numbers = json.loads(shown.stdout)
    table = np.array(numbers["confusion"])
    assert table.shape == (3, 3)
    assert table.sum() == 9
    assert np.trace(table) / 9 == pytest.approx(numbers["accuracy"])
    assert "labels in rows" in spyx("eval", "run", "--dataset", own[1]).stdout
    assert "Name it yourself with --dataset" in spyx("eval", "run").stderr
    assert "was trained with" in spyx("eval", "run", "--dataset", f"{mine}:nothing").stderr
    assert "a data set of your own" in spyx("train", "--config", "run/config.toml").stderr
    assert spyx("compare", "run").exit_code == 0  # loads no code
    (tmp_path / "run" / "metrics.json").unlink()
    assert "Name it yourself with --dataset" in spyx("train", "--resume", "run").stderr
    assert "Name it yourself with --loss" in spyx("train", "--resume", "run", *own[:2]).stderr
    assert "expected no other option" in spyx("train", "--resume", "run", "--dataset", "digits").stderr
    again = spyx("train", "--resume", "run", *own)
    assert again.exit_code == 0, again.stderr


def test_several_seeds_are_a_folder_each_and_one_row(mine, tmp_path, monkeypatch):
    own = ("--dataset", f"{mine}:load")
    result = spyx("train", *own, *TINY, "--seeds", "1..2", "--output", "runs")
    assert result.exit_code == 0, result.stderr
    assert "2 seeds by one program" in result.stdout
    with monkeypatch.context() as patch:
        patch.setattr(progress.Shown, "epoch", lambda self, epoch, _: epoch or signal.raise_signal(signal.SIGINT))
        half = spyx("train", *own, *TINY, "--seeds", "1..2", "--output", "half")
    assert half.exit_code == 130
    assert half.stderr.splitlines() == [
        "spyx: interrupted: finishing this epoch and saving. Ctrl-C again stops at once.",
        "spyx: interrupted after epoch 1 of 2, and saved. Go on with: spyx train --resume half",
    ]
    assert len(rows_of(tmp_path / "half/seed-2/metrics.csv")) == 1
    other = spyx("train", "--resume", "half", *own, "--devices", "1")
    assert "--resume of several seeds: expected no --devices" in other.stderr
    shutil.copytree("half", "other")
    (tmp_path / "other/seeds.json").write_text("[2, 1]")
    refused = spyx("train", "--resume", "other", *own)
    assert refused.exit_code == 2
    assert "--resume: expected the same settings as when the run was started; got seed=2 in" in refused.stderr
    (tmp_path / "other/seeds.json").write_text('["a"]')
    assert "--resume: expected a list of seeds in other/seeds.json" in spyx("train", "--resume", "other", *own).stderr
    again = spyx("train", "--resume", "half", *own)
    assert again.exit_code == 0, again.stderr
    assert "resumed after 1 of 2 epochs" in again.stdout
    weights = "weights.safetensors"
    for name in (f"seed-1/{weights}", f"seed-2/{weights}", "seed-2/best.safetensors", "seed-2/metrics.csv"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "runs" / name).read_bytes(), name
    finished = spyx("train", "--resume", "half", *own).stderr
    assert "half is finished. Look at it with: spyx compare half/seed-*" in finished
    rows = json.loads(spyx("compare", "runs/seed-1", "runs/seed-2", "--json").stdout)
    assert [row["seeds"] for row in rows] == [[1, 2]]
    single = spyx("train", "--dataset", f"{mine}:load", *TINY, "--seed", "2", "--output", "single")
    assert single.exit_code == 0, single.stderr
    first, other = (rows_of(tmp_path / run / "metrics.csv") for run in ("runs/seed-2", "single"))
    assert [float(row["eval_loss"]) for row in first] == pytest.approx(
        [float(row["eval_loss"]) for row in other], rel=1e-4
    )
    assert json.loads((tmp_path / "runs/seed-2/record.json").read_text())["seeds_together"] == [1, 2]
    shown = spyx("eval", "runs/seed-2", "--dataset", f"{mine}:load", "--best", "--json")
    assert shown.exit_code == 0, shown.stderr


def test_mistakes_with_code_of_your_own(mine):
    for arguments, message in (
        (("--dataset", f"{mine}:lod"), "Did you mean load?"),
        (("--dataset", f"{mine}:nothing"), "a dictionary with train, validation and test, each (x, y)"),
        (("--dataset", f"{mine}:broken"), "fails: RuntimeError: no such disk"),
        (("--dataset", f"{mine}:nothing", "--data", "x"), "to take root, because it is given"),
        (("--dataset", "no_such_module:load"), "there is no module no_such_module"),
        (("--dataset", "a b:load"), "expected MODULE:FUNCTION, such as mine:load"),
        (("--loss", "nope"), "unknown loss 'nope'"),
        (("--loss", f"{mine}:nope"), "--loss: nope is not there"),
        (("--dataset", "folder", "--data", "."), "give --sensor-size"),
        (("--sensor-size", "3,4"), "takes no sensor_size"),
        (("--seeds", "1,1"), "--seeds: expected seeds such as 0..4"),
        (("--seeds", "0..4", "--seed", "1"), "--seeds: expected no --seed beside it"),
    ):
        result = spyx("train", *arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr, result.stderr
        assert result.stderr.count("\n") == 1


def test_seeds_in_words():
    assert parsed("0..4", None) == [0, 1, 2, 3, 4]
    assert parsed("7,3", None) == [7, 3]
    for text in ("", "a", "4..1", "0..5000", "-1", "0..", "1,,2"):
        with pytest.raises(UserError, match="--seeds"):
            parsed(text, None)


def test_a_file_names_the_settings_of_the_optimiser(tmp_path):
    (tmp_path / "a.toml").write_text('precision = "float8"\naverage = 1.0\naccumulate = 0\nclass_weights = "all"\n')
    with pytest.raises(UserError) as error:
        make_config(tmp_path / "a.toml", {})
    for name in ("precision", "average", "accumulate", "class_weights"):
        assert f"{name}: expected" in str(error.value)


def samples(y):
    parts = {part: jnp.asarray(y) for part in inputs.PARTS}
    x = {part: jnp.ones((len(y), 3, 2)) for part in inputs.PARTS}
    return inputs.Inputs(x, parts, (2,), 3, "none", "", {}, {})


def test_balanced_classes_weigh_the_same():
    config = Config(class_weights="balanced")
    weights = score.class_weights(config, samples([0, 0, 0, 1, 1, 2]))
    np.testing.assert_allclose(weights, [6 / 9, 1, 2], rtol=1e-6)
    assert score.class_weights(Config(), samples([0, 1])) is None
    step = score.class_weights(config, samples([[0, -1, 0], [1, 2, -1]]))
    np.testing.assert_allclose(step, [2 / 3, 4 / 3, 4 / 3], rtol=1e-6)
    model = nn.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nn.LI(3))
    x, y = jnp.ones((6, 3, 2)), jnp.asarray([0, 0, 0, 1, 1, 2])
    found = score.make_loss(config, weights)(model, x, y)
    expected = fn.integral_crossentropy(smoothing=0.1, class_weights=weights)(nn.run(model, x)[0], y)
    assert float(found) == pytest.approx(float(expected))


@pytest.mark.parametrize("loss", score.LOSSES)
def test_losses_by_name(loss):
    model = nn.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nn.LI(3))
    x, y = jnp.ones((4, 3, 2)), jnp.asarray([0, 1, 2, 0])
    found = score.make_loss(Config(loss=loss))(model, x, y)
    expected = getattr(fn, loss)(smoothing=0.1)(nn.run(model, x)[0], y)
    assert float(found) == pytest.approx(float(expected))


def test_the_optimiser_of_the_settings_averages_and_accumulates():
    config = Config(average=0.5, accumulate=3, precision="bfloat16")
    graphdef, params, rest = nnx.split(nn.LI(1, beta=0.5), nnx.Param, ...)
    objective = Objective("mine", lambda model, x: x.sum(), graphdef, rest)
    impl = make_solver.make_solver(config, 9, (2,))(objective, params)
    state = impl.init(jax.random.key(0))
    assert len(state) == 3  # what trains, the average, how many
    assert int(state[2]) == 0
    assert [leaf.dtype for leaf in jax.tree.leaves(state[1])] == [jnp.float32]


def test_the_digest_is_that_of_the_data():
    one, other = samples([0, 1]), samples([0, 2])
    assert digest(one) == digest(samples([0, 1])) != digest(other)
