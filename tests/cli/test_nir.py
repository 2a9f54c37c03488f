"""`spyx nir` as a stranger uses it: files without a time step, swapped axes, comparisons, JSON, and plain messages."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import spyx
from spyx import nn

nir = pytest.importorskip("nir")
from spyx.nir import NIRLIF, from_nir, quantise, read, suggest_dt, write  # noqa: E402

TAU, UNITS = 2e-3, 3
SPYX1 = Path(__file__).resolve().parent.parent / "nir" / "spyx1_files" / "spyx1.zip"


@pytest.fixture
def files(tmp_path):
    """A chain whose file records no time step, an input for it, and the output that it should have."""
    rng = np.random.default_rng(0)
    taus = np.array([TAU, 0.01, 0.02])
    weight = rng.normal(size=(UNITS, 2)).astype(np.float32)
    lif = nir.LIF(tau=taus, r=np.full(UNITS, 9.0), v_leak=np.zeros(UNITS), v_threshold=np.ones(UNITS))
    nodes = {
        "out": nir.Output({"output": np.array([UNITS])}),  # in the file, as in HDF5's order, before what feeds it
        "b_lif": lif,
        "c_fc": nir.Linear(weight),
        "d_in": nir.Input({"input": np.array([2])}),
    }
    write(tmp_path / "net.nir", nir.NIRGraph(nodes, [("d_in", "c_fc"), ("c_fc", "b_lif"), ("b_lif", "out")]))
    x = (rng.random((2, 30, 2)) < 0.6).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", nn.run(from_nir(tmp_path / "net.nir", TAU / 10), x)[0])
    return tmp_path


def test_check_without_a_time_step_shows_the_graph_and_suggests_one(files):
    seen = spyx("nir", "check", files / "net.nir")
    assert seen.exit_code == 0, seen.stderr
    for text in ("b_lif", "2 → 3", "0.002", "0.02", "--dt 0.0002", "no time step"):
        assert text in seen.stdout
    assert "not checked: what the graph does" in seen.stdout
    assert "agrees" not in seen.stdout
    rows = [line for line in seen.stdout.splitlines() if line.startswith("│")]
    first = [name for line in rows if (name := line.split()[1]) in ("d_in", "c_fc", "b_lif", "out")]
    assert first[:4] == ["d_in", "c_fc", "b_lif", "out"]


def test_check_with_a_time_step_says_what_it_did_not_check_and_warns_of_a_coarse_one(files):
    seen = spyx("nir", "check", files / "net.nir", "--dt", TAU / 10, "--steps", 5)
    assert (seen.exit_code, seen.stderr) == (0, "")
    assert "spyx agrees with the reference" in seen.stdout
    assert "not checked: other inputs than 5 steps" in seen.stdout
    assert "no time step" not in seen.stdout
    coarse = spyx("nir", "check", files / "net.nir", "--dt", TAU / 5, "--steps", 5)
    assert coarse.exit_code == 0
    assert "expected at most 1/10 of the smallest time constant" in coarse.stderr
    assert "tau of node 'b_lif' is 0.002" in coarse.stderr


def test_check_as_json(files):
    found = json.loads(spyx("nir", "check", files / "net.nir", "--json").stdout)
    assert (found["dt"], found["suggested_dt"], found["compared"]) == (None, 2e-4, 0)
    assert found["time_constants"] == [{"node": "b_lif", "name": "tau", "smallest": TAU, "largest": 0.02}]
    assert [node["name"] for node in found["nodes"]] == ["d_in", "c_fc", "b_lif", "out"]
    ran = json.loads(spyx("nir", "check", files / "net.nir", "--dt", TAU / 10, "--steps", 5, "--json").stdout)
    assert (ran["dt"], ran["compared"], ran["difference"], ran["steps"]) == (TAU / 10, 3, None, 5)
    assert ran["integration"] == "euler"


def test_a_difference_in_check_is_in_the_json_and_in_the_exit_code(files, monkeypatch):
    derive = NIRLIF.derive
    monkeypatch.setattr(NIRLIF, "derive", staticmethod(lambda p: {**derive(p), "leak": 0.0 * p.tau}))
    seen = spyx("nir", "check", files / "net.nir", "--dt", TAU / 10, "--json")
    assert seen.exit_code == 1
    assert json.loads(seen.stdout)["difference"]["node"] == "b_lif"


def run(files, *more, x="x.npy", dt=TAU / 10):
    return spyx("nir", "run", files / "net.nir", "--input", files / x, *(("--dt", dt) if dt else ()), *more)


def test_run_compares_with_an_expected_output(files):
    same = run(files, "--expect", files / "y.npy")
    assert same.exit_code == 0, same.stderr
    assert "equals" in same.stdout
    y = np.load(files / "y.npy")
    y[1, 4, 2] += 1
    y[0, 7, 0] += 1
    np.save(files / "y.npy", y)
    other = run(files, "--expect", files / "y.npy")
    assert other.exit_code == 1
    assert "first at step 4, sample 1, unit 2" in " ".join(other.stdout.split())
    assert "2 of 180 values differ" in " ".join(other.stdout.split())
    found = run(files, "--expect", files / "y.npy", "--json")
    assert found.exit_code == 1
    parting = json.loads(found.stdout)["difference"]
    assert (parting["step"], parting["sample"], parting["unit"], parting["values"]) == (4, 1, [2], 2)
    np.save(files / "y.npy", y[:1])
    assert (
        "--expect: expected the shape of the output, (2, 30, 3); got (1, 30, 3)"
        in run(files, "--expect", files / "y.npy").stderr
    )
    y[:] = np.nan
    np.save(files / "y.npy", y)
    assert "--expect: expected numbers; got NaN in 180" in run(files, "--expect", files / "y.npy").stderr


def test_run_as_json(files):
    found = json.loads(run(files, "--json").stdout)
    assert found["outputs"]["output"] == {"shape": [2, 30, 3], "sum": float(np.load(files / "y.npy").sum())}
    assert found["dt"] == TAU / 10
    assert "difference" not in found


def test_what_looks_like_a_mistake_needs_force(files):
    x = np.load(files / "x.npy")
    np.save(files / "swapped.npy", x[:1].swapaxes(0, 1))
    np.save(files / "nan.npy", np.where(x == x[0, 0, 0], np.float32(np.nan), x))
    for message, arguments in (
        ("got 30 samples of one step each", {"x": "swapped.npy"}),
        ("got 0.002, and tau of node 'b_lif' is 0.002", {"dt": TAU}),
    ):
        refused = run(files, **arguments)
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert refused.stderr.endswith("--force goes on all the same.\n")
        forced = run(files, "--force", **arguments)
        assert forced.exit_code == 0
        assert message in forced.stderr
        assert forced.stdout.startswith("output: (")
    assert "expected numbers; got NaN" in run(files, x="nan.npy").stderr
    forced = run(files, "--force", "--json", x="nan.npy")
    assert forced.exit_code == 0
    assert "values are not finite" in forced.stderr
    assert json.loads(forced.stdout)["outputs"]["output"]["shape"] == [2, 30, 3]
    assert run(files, dt=TAU / 5).exit_code == 0
    assert "expected at most 1/10" in run(files, dt=TAU / 5).stderr
    assert run(files, "--integration", "exponential", dt=TAU).stderr == ""


def test_a_step_that_the_file_was_written_with_is_never_coarse(files):
    graph = read(files / "net.nir")
    graph.metadata["dt"] = TAU
    write(files / "net.nir", graph)
    assert run(files, dt=None).stderr == ""
    assert run(files, dt=TAU).stderr == ""
    assert run(files, dt=2 * TAU).exit_code == 2


def test_a_graph_of_spyx_1_is_announced_in_one_line_and_its_step_is_its_own(tmp_path):
    with zipfile.ZipFile(SPYX1) as archive:
        archive.extract("feedforward.nir", tmp_path)
    for more in ((), ("--dt", 1e-3, "--steps", 3)):
        seen = spyx("nir", "check", tmp_path / "feedforward.nir", *more)
        assert seen.exit_code == 0
        assert seen.stderr.count("\n") == 1
        assert "feedforward.nir: Spyx 1.0 wrote this graph (r = beta)" in seen.stderr
        assert not re.search(r"spyx\.nir|written_by=", seen.stderr)
    np.save(tmp_path / "x.npy", np.ones((1, 4, 5), np.float32))
    ran = spyx("nir", "run", tmp_path / "feedforward.nir", "--dt", 1e-3, "--input", tmp_path / "x.npy")
    assert ran.exit_code == 0
    assert ran.stderr.count("\n") == 1


def test_quantise_writes_a_new_file_and_says_what_changed(files):
    made = spyx("nir", "quantise", files / "net.nir", "--weights", "int4", "--decays", "int5", "--dt", TAU / 10)
    assert made.exit_code == 0, made.stderr
    got = read(files / "net-quantised.nir")
    wanted = quantise(read(files / "net.nir"), weights="int4", decays="int5", dt=TAU / 10)
    np.testing.assert_array_equal(got.nodes["c_fc"].weight, wanted.nodes["c_fc"].weight)
    np.testing.assert_array_equal(got.nodes["b_lif"].tau, wanted.nodes["b_lif"].tau)
    change = np.abs(wanted.nodes["c_fc"].weight - read(files / "net.nir").nodes["c_fc"].weight).max()
    assert f"{change:.2g}" in made.stdout
    again = spyx("nir", "quantise", files / "net.nir", "--weights", "int4")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


MISTAKES = [
    (
        ["run", "net.nir", "--input", "x.npy"],
        "--dt: expected a time step, because .*net.nir records none.* 0.0002",
    ),
    (["run", "net.nir", "--input", "x.npy", "--dt", "0"], "--dt: expected a time step above 0"),
    (["run", "net.nir", "--input", "y.npy", "--dt", "1e-4"], r"--input: expected \(batch, time, 2\); got \(2, 30, 3\)"),
    (["run", "net.nir", "--input", "one.npy", "--dt", "1e-4"], r"got \(30, 2\). For one sample, save x\[None\]"),
    (["run", "net.nir", "--input", "none.npy", "--dt", "1e-4"], "--input: expected at least one sample and one step"),
    (["check", "net.nir", "--target", "abacus"], "--target: expected one of .*; got 'abacus'. Choose one."),
    (["check", "net.nir", "--reset", "soft"], "--reset: expected one of nir, subtract, zero"),
    (["check", "no.nir"], "no.nir: expected a file"),
    (["check", "x.npy"], "x.npy: expected an HDF5 file"),
    (["check", "net.nir", "--dt", "1e-4", "--steps", "1000000000"], "--steps: expected a trial of at most"),
    (["quantise", "net.nir"], "expected --weights, --decays or both"),
    (["quantise", "net.nir", "--weights", "int99"], "--weights: expected float16, bfloat16, or int2 to int16"),
    (["quantise", "net.nir", "--decays", "int8"], "--dt: expected a time step, .*Give --dt."),
    (["quantise", "net.nir", "--weights", "int8", "--output", "no/a.nir"], "no/a.nir: expected a folder that exists"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_in_the_words_of_the_command_line(words, message, files, monkeypatch):
    monkeypatch.chdir(files)
    np.save("one.npy", np.load("x.npy")[0])
    np.save("none.npy", np.load("x.npy")[:0])
    failed = spyx("nir", *words)
    assert failed.exit_code == 2
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert re.search(message, failed.stderr)
    assert not re.search(r"spyx\.nir|\w=\)|\bdt=|UserError", failed.stderr)


def graph_with(*middle, shape=2):
    names = [f"n{k}" for k in range(len(middle))]
    chain = ["input", *names, "output"]
    ends = {"input": nir.Input({"input": np.array([shape])}), "output": nir.Output({"output": np.array([shape])})}
    return nir.NIRGraph({**ends, **dict(zip(names, middle, strict=True))}, list(zip(chain, chain[1:], strict=False)))


def lif(tau):
    one = np.ones(2)
    return nir.LIF(tau=tau * one, r=one, v_leak=0 * one, v_threshold=one)


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        ([lif(0.01)], 0.001),
        ([lif(0.0299)], 0.002),
        ([lif(0.07), lif(0.02)], 0.002),
        ([lif(0.01), nir.Delay(np.array([0.0015, 0.003]))], 0.0005),
        ([lif(0.01), nir.Delay(np.array([1 / 3, 0.2]))], None),
        ([nir.Delay(np.array([2.0, 4.0]))], 2.0),
        ([nir.IF(np.full(2, 4.0), np.ones(2))], 0.25),
        ([nir.IF(np.array([1.0, 2.0]), np.ones(2))], None),
        ([nir.Scale(np.ones(2))], None),
    ],
)
def test_the_suggested_step(middle, expected):
    assert suggest_dt(graph_with(*middle)) == expected
