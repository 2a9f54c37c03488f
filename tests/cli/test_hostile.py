"""Settings, run folders and graphs from strangers: one line that names the file and the place, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest

from cli.conftest import spyx
from spyx.cli import runs, text
from spyx.cli import train as training
from spyx.cli.config import Config, make_config
from spyx.cli.errors import UserError
from spyx.saving import tensors

SHORT = ("--epochs", 1, "--hidden", 8, "--steps", 4, "--batch-size", 629)


def refused(result, *words):
    """One line on standard error that holds the words, and nothing that steers a terminal."""
    assert result.exit_code == 2, (result.stdout, result.stderr)
    assert result.stderr.startswith("spyx: ")
    assert result.stderr.count("\n") == 1
    assert not unsafe(result.stdout + result.stderr)
    for word in words:
        assert word in result.stderr, result.stderr


def unsafe(printed):
    return [letter for letter in printed if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Cs")]


LAUGHS = "a: &a [1,1,1,1,1,1,1,1]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
SETTINGS = {
    "infinite size": ("a.toml", "hidden = [inf]\n", "--hidden: expected one size"),
    "half a size": ("a.toml", "hidden = [8.5]\n", "--hidden: expected one size"),
    "many layers": ("a.toml", f"hidden = {[1] * 300}\n", "--hidden: expected one size"),
    "huge layers": ("a.toml", "hidden = [65536, 65536]\n", "--hidden: the weights would take 16 GiB"),
    "no number": ("a.toml", "beta = nan\n", "--beta: expected a number"),
    "endless": ("a.toml", "epochs = inf\n", "--epochs: expected a whole number"),
    "deep TOML": ("a.toml", "x = " + "[" * 20_000 + "]" * 20_000, "nested too deeply"),
    "deep YAML": ("a.yaml", "x: " + "[" * 20_000 + "]" * 20_000, "nested too deeply"),
    "aliases": ("a.yaml", LAUGHS, "it uses an alias"),
    "one alias": ("a.yaml", "neuron: &a LIF\ndataset: *a\n", "it uses an alias"),
    "a Python object": ("a.yaml", "x: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    "large": ("a.toml", "# " + "x" * 70_000, "expected a file of at most 65536 bytes"),
    "NUL": ("a.toml", 'dataset = "nmnist"\ndata = "a\\u0000b"\n', "data: expected a text without control characters"),
    "nobody": ("a.toml", 'dataset = "nmnist"\ndata = "~nouser-of-this/x"\n', "--data: expected a folder"),
    "escape": ("a.toml", 'dataset = "\\u001b]0;PWN\\u0007"\n', "dataset: expected a text without control characters"),
    "unknown and steering": ("a.toml", '"\\u001b[2J" = 1\n', "unknown setting"),
    "narrow bins": ("a.toml", "[raster]\nbin_ms = 1e-300\nduration_ms = 1\n", "raster"),
    "bytes": ("a.toml", b"\xff\xfe\x00", "cannot read"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_strangers(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, content, message = SETTINGS[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    began = time.monotonic()
    more = () if name == "endless" else ("--epochs", 1)
    refused(spyx("train", "--config", file, *more), message)
    assert time.monotonic() - began < 10


def test_narrow_bins_are_refused_by_the_raster():
    from spyx.data import Raster

    for wrong in (1e-300, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected bin_ms to be a whole number of microseconds"):
            Raster(bin_ms=wrong, duration_ms=1)


@pytest.mark.parametrize("odd", ['a"b', "a\\b", "gr\u00fc\u00df", "\U0001f600", "[/]", "a b"])
def test_settings_are_written_so_that_they_are_read_again(odd, tmp_path):
    config = Config(data=odd)
    (tmp_path / "a.toml").write_text(config.to_toml(), encoding="utf-8")
    assert make_config(tmp_path / "a.toml", {}) == config


def test_a_name_full_of_markup_and_escapes_is_printed_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = spyx("train", *SHORT, "--output", "out[/]")
    assert result.exit_code == 0, result.stderr
    assert "out[/]" in result.stdout
    refused(spyx("train", *SHORT, "--output", "\x1b]0;x\x07"), "--output: expected a name without control characters")


@pytest.mark.parametrize("output", ["there", "file/under", "."])
def test_an_output_that_cannot_be_made_is_refused_before_the_data_is_loaded(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(training.inputs, "load_inputs", lambda config: pytest.fail("loaded"))
    refused(spyx("train", "--output", output), "--output: ")


def test_two_runs_in_one_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")
    folders = [runs.new_folder(None, Config()) for _ in range(3)]
    assert [folder.name[15:] for folder in folders] == ["-digits-LIF", "-digits-LIF-2", "-digits-LIF-3"]


WEIGHTS = "weights.safetensors"


@pytest.fixture
def run(default_run, tmp_path):
    """A copy of a finished run, its arrays, and a function that writes others with a digest that fits."""
    source, _ = default_run
    for name in ("config.toml", WEIGHTS):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    arrays, texts = tensors.read(tmp_path / WEIGHTS)
    return tmp_path, dict(arrays), lambda changed: tensors.write(tmp_path / WEIGHTS, changed, texts)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def of_header(entry):
    """A file whose header says this of the one array in it."""
    header = json.dumps({"__metadata__": {}, "layers.0.kernel": entry}).encode()
    return len(header).to_bytes(8, "little") + header


BOMB = {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}
PICKLE = {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}


@pytest.mark.parametrize("command", ["eval", "convert"])
@pytest.mark.parametrize("kind", ["empty", "cut", "text", "pickle", "objects", "bomb", "infinite", "not a number"])
def test_weights_of_strangers(run, kind, command, monkeypatch, tmp_path):
    folder, arrays, replace = run
    monkeypatch.chdir(tmp_path)
    good = (folder / WEIGHTS).read_bytes()
    if kind in ("infinite", "not a number"):
        kernel = arrays["layers.0.kernel"].copy()
        kernel[2, 5] = np.inf if kind == "infinite" else np.nan
        replace(arrays | {"layers.0.kernel": kernel})
    else:
        content = {
            "empty": b"",
            "cut": good[: len(good) // 2],
            "text": b"hello",
            "pickle": pickle.dumps(Evil()),
            "objects": of_header(PICKLE) + pickle.dumps(Evil()),
            "bomb": of_header(BOMB),
        }[kind]
        (folder / WEIGHTS).write_bytes(content)
    result = spyx("eval", folder) if command == "eval" else spyx("nir", "convert", folder, tmp_path / "a.nir")
    named = kind in ("infinite", "not a number", "objects", "bomb")
    refused(result, f"{WEIGHTS} is damaged", "layers.0.kernel" if named else "")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "a.nir").exists()


@pytest.mark.parametrize("change", ["shape", "dtype", "missing", "extra"])
def test_weights_that_do_not_fit_their_network_are_named(run, change):
    folder, arrays, replace = run
    name = "layers.2.kernel"
    if change == "missing":
        del arrays[name]
    elif change == "extra":
        arrays[name := "layers.9.kernel"] = np.ones((2, 2), np.float32)
    else:
        arrays[name] = arrays[name][:, :-1] if change == "shape" else arrays[name].astype(np.int32)
    replace(arrays)
    refused(spyx("eval", folder), f"{WEIGHTS} is damaged", name)


def test_weights_of_other_settings_are_named(run):
    folder, _, _ = run
    settings = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(settings.replace('neuron = "LIF"', 'neuron = "RLIF"'))
    refused(spyx("eval", folder), "belongs to another network than", "they differ at args.layers")


def test_a_run_folder_that_is_none(tmp_path):
    (tmp_path / "config.toml").mkdir()
    refused(spyx("eval", tmp_path), "is not a run")
    refused(spyx("eval", tmp_path / "no\x1b[2J"), "is not a run")


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_says_what_is_safe(tmp_path, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(runs, "save_text", lambda folder, name, text: runs._save(folder, name, full))
        changed.setattr(training, "save_text", lambda folder, name, text: (folder / name).write_text(text))
        changed.setattr(training, "save_weights", lambda *given: None)
        result = spyx("train", *SHORT, "--output", tmp_path / "a")
    refused(result, "metrics.json: No space left on device. The weights are safe: run spyx eval")
    with monkeypatch.context() as changed:
        changed.setattr("spyx.save", full)
        refused(spyx("train", *SHORT, "--output", tmp_path / "b"), "the weights could not be written")


def test_a_full_disk_names_the_file_and_leaves_no_part_of_it(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught:
        runs._save(tmp_path, "metrics.csv", full)
    assert caught.value.filename == str(tmp_path / "metrics.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_fails_does_not_fail_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(training.report, "plot_history", full)
    result = spyx("train", *SHORT, "--output", tmp_path / "a")
    assert result.exit_code == 0
    assert "no pictures:" in result.stdout
    assert (tmp_path / "a" / "metrics.json").exists()


@pytest.mark.parametrize(
    "name", ["[bold]", "[red]x", "[link=evil.example]if", "\x1b]0;PWN\x07\x1b[2Jx", "a\nb", "\u202ex"]
)
def test_names_of_nodes_are_printed_as_they_are(name, tmp_path):
    nir = pytest.importorskip("nir")
    graph = nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([2])}),
            name: nir.LIF(*(np.full(2, value) for value in (0.02, 1.0, 0.0, 1.0, 0.0))),
            "output": nir.Output({"output": np.array([2])}),
        },
        [("input", name), (name, "output")],
    )
    nir.write(str(tmp_path / "a.nir"), graph)
    result = spyx("nir", "check", tmp_path / "a.nir", "--dt", "0.001", "--steps", 5)
    assert result.exit_code == 0, result.stderr
    assert text.plain(name) in result.stdout.replace("\n", "")
    assert not unsafe(result.stdout + result.stderr)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        pickle.dumps(1),
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,), }\n",
    ],
)  # noqa: E501
def test_inputs_of_strangers(content, tmp_path):
    nir = pytest.importorskip("nir")
    ends = {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
    graph = nir.NIRGraph({**ends, "w": nir.Linear(np.eye(2))}, [("input", "w"), ("w", "output")])
    nir.write(str(tmp_path / "a.nir"), graph)
    (tmp_path / "x.npy").write_bytes(content)
    result = spyx("nir", "run", tmp_path / "a.nir", "--dt", 1, "--input", tmp_path / "x.npy")
    refused(result, "--input: expected an array in a .npy file")


def test_messages_name_options_and_not_arguments(tmp_path):
    refused(spyx("train", "--dataset", "braille", "--data", tmp_path), "no such file. Check --data.")


def test_an_interrupt_that_is_swallowed_comes_again():
    """As when the garbage collector calls back: what is raised there is printed and forgotten."""
    code = """
import os, signal, sys, time
from spyx.cli import interrupt
interrupt.AGAIN_S = 0.1
interrupts = interrupt.Interrupts()
with interrupts.guard():
    try:
        for _ in range(3):
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except KeyboardInterrupt:
                pass
        time.sleep(20)
    except KeyboardInterrupt:
        interrupts.caught()
        sys.exit(130)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True)
    assert done.returncode == 130, done.stderr


def test_a_user_error_is_one_line_whatever_it_quotes():
    assert "\x1b" not in text.plain(UserError("a\x1b[2J"))
    assert len(text.plain("x" * 10**6)) < 3000
