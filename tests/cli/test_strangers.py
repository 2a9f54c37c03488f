"""Run folders and checkpoints of strangers: no pipe or device is waited for, no link is written through."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter

import jax.numpy as jnp
import pytest

from cli.conftest import spyx
from cli.test_hostile import refused, unsafe
from spyx import report, saving, zoo
from spyx.cli import doctor, page, serve
from spyx.cli.config import Config
from spyx.cli.errors import UserError
from spyx.cli.resume import resumed
from spyx.cli.runs import MOST_COLUMNS, read_history
from spyx.optimize import CheckpointError, _checkpoint
from spyx.optimize._checkpoint import SUMS, Checkpoints
from spyx.report._page.document import OPENING, as_json, read_content
from spyx.zoo import _shelf

pytestmark = pytest.mark.timeout(60)
NUMBERS = {"test_accuracy": 0.5, "test_loss": 1.25, "run_s": 3.5}
EPOCHS = "epoch,train_loss,eval_loss,eval_acc\n1,2.0,2.5,0.1\n2,1.0,1.5,0.3\n"
LIKE = {f"kernel{k}": jnp.full((2, 3), k, jnp.float32) for k in range(9)} | {"step": jnp.int32(7)}


@pytest.fixture
def run(tmp_path):
    """A finished run, as far as its folder shows it without its weights."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.toml").write_text(Config().to_toml())
    (folder / "metrics.json").write_text(json.dumps({**NUMBERS, "epochs": [{"train_loss": 1.0}]}))
    (folder / "metrics.csv").write_text(EPOCHS)
    (folder / "weights.safetensors").write_bytes(b"x")
    page.save_page(folder, page.current(folder, Config()))
    (folder / "checkpoints").mkdir()
    return folder


READ = {
    "metrics.json": lambda run: refused(spyx("compare", run), str(run)),
    "metrics.csv": lambda run: read_history(run) == [] or pytest.fail("read"),
    "layers.csv": lambda run: page.read_layers(run) == [] or pytest.fail("read"),
    "report.html": lambda run: serve.now(run, Config()),
    "checkpoints/lock": lambda run: serve.now(run, Config()),
    "weights.safetensors": lambda run: refused(spyx("nir", "convert", run, run / "a.nir"), "weights.safetensors"),
}
PLACED = {
    "a pipe": os.mkfifo if hasattr(os, "mkfifo") else None,
    "a device": lambda path: os.symlink("/dev/ptmx", path),
    "a link to itself": lambda path: os.symlink(path, path),
    "a sparse terabyte": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
@pytest.mark.parametrize("what", PLACED)
@pytest.mark.parametrize("file", READ)
def test_what_is_no_file_is_not_waited_for(file, what, run):
    (run / file).unlink(missing_ok=True)
    PLACED[what](run / file)
    READ[file](run)


@pytest.mark.parametrize(
    "text",
    ['{"test_accuracy": 1' + "0" * 400 + ', "test_loss": 1, "run_s": 1}', "[" * 100_000, "null", '{"run_s": 1}', "NaN"]
    + [json.dumps({**NUMBERS, "test_loss": value}) for value in (1e308, float("nan"), [1], "x", None, {})],
)
def test_results_that_are_none(text, run):
    (run / "metrics.json").write_text(text)
    refused(spyx("compare", run, run / ".." / "run"), "metrics.json is damaged")


@pytest.mark.parametrize("value", [10**400, 1e308, "x", None])
def test_epochs_that_are_none_are_left_out_of_the_page(value, run, tmp_path):
    (run / "metrics.json").write_text(json.dumps({**NUMBERS, "epochs": [{"train_loss": value}]}))
    other = shutil.copytree(run, tmp_path / "other")
    result = spyx("compare", run, other, "--page", tmp_path / "c.html")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "c.html").is_file()


def test_tables_with_more_than_a_run_has(run):
    (run / "metrics.csv").write_text(",".join(map(str, range(MOST_COLUMNS + 1))) + "\n" + "1\n" * 9)
    assert read_history(run) == []
    (run / "metrics.csv").write_text(EPOCHS + "3\n4,x,1,1\n5,1,1,1,1\n6,1e999,1,1\n7,1,1")
    assert [row["train_loss"] for row in read_history(run)] == [2.0, 1.0, float("inf")]


@pytest.mark.parametrize("entry", ['"missing": []', '"title": NaN', '"title": "x"'])
def test_a_page_that_is_changed_can_be_served(entry, run):
    whole = (run / "report.html").read_text()
    before, opening, content = whole.partition(OPENING)
    name, _, value = entry.partition(": ")
    assert f"{name}:" in content
    changed = before + opening + content.replace(f"{name}:", f'{name}: {value}, {name[:-1]}_":', 1)
    (run / "report.html").write_text(changed)
    assert (read_content(changed) is None) == ("x" not in value)
    as_json(serve.now(run, Config()))


def test_the_name_of_a_folder_cannot_steer_the_terminal(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "open_trained", lambda *given: (Config(), None, None))
    monkeypatch.setattr(doctor, "diagnose", lambda *given: (report.Diagnosis([]), None))
    monkeypatch.setattr(doctor, "_fixed", lambda *given: ([], ["--beta", "0.98"]))
    result = spyx("doctor", tmp_path / "\x1b[2J[bold]", "--fix")
    assert "\\x1b[2J[bold]" in result.stdout
    assert not unsafe(result.stdout)


def test_what_is_wrong_in_settings_names_their_file(run):
    for line, word in (
        ("hidden = [0.5]\n", "--hidden"),
        ('neuron = "Foo"\n', "unknown neuron"),
        ("x = 1\n", "unknown"),
    ):
        (run / "config.toml").write_text(line)
        refused(spyx("eval", run), f"{run / 'config.toml'}: ", word)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links of POSIX")
def test_nothing_is_written_through_a_link(run, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (run / "checkpoints" / "lock").symlink_to(mine)
    with (
        pytest.raises(CheckpointError, match="lock is no regular file"),
        Checkpoints(run / "checkpoints", 1, "x").locked(),
    ):
        pass
    assert mine.read_text() == "precious"
    (run / "metrics.json").unlink()
    shutil.move(run / "checkpoints", tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="checkpoints is a link"):
        resumed(run, {})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with one checkpoint."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    store = Checkpoints(folder, 1, "x")
    with store.locked():
        store.save(LIKE, {"epoch": 1}, wait=True)
    return folder


def restored(folder):
    lines = []
    return Checkpoints(folder, 1, "x").restore(lambda *_: LIKE, lines.append), " ".join(lines)


def signed(folder):
    (folder / SUMS).write_bytes(_checkpoint._sums(_checkpoint._digests(folder)))


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("name", [SUMS, "info.json", "arrays/_METADATA"])
@pytest.mark.parametrize("what", ["a pipe", "a sparse terabyte"])
def test_checkpoints_of_strangers(what, name, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "c")
    (folder / "000001" / name).unlink()
    PLACED[what](folder / "000001" / name)
    found, lines = restored(folder)
    assert found is None
    assert name in lines or "it takes 1099" in lines


@pytest.mark.parametrize("flipped", [0.1, 0.5, 0.9])
def test_a_changed_byte_in_any_file_of_a_checkpoint_is_noticed(flipped, saved, tmp_path):
    files = [file.relative_to(saved) for file in saved.rglob("*") if file.is_file() and file.name != "lock"]
    assert len(files) > 5
    for file in files:
        folder = shutil.copytree(saved, tmp_path / "c")
        content = bytearray((folder / file).read_bytes())
        content[int(flipped * len(content))] ^= 4
        (folder / file).write_bytes(content)
        assert restored(folder)[0] is None, file
        shutil.rmtree(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 1e999}', '{"versions": []}', "[]", "null"])
def test_numbers_of_a_checkpoint_with_a_digest_that_fits(text, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "c")
    (folder / "000001" / "info.json").write_text(text)
    signed(folder / "000001")
    found, lines = restored(folder)
    assert found is None
    assert "cannot be read" in lines


def test_what_orbax_logs_of_a_damaged_file_is_not_printed(saved, tmp_path, caplog):
    folder = shutil.copytree(saved, tmp_path / "c")
    (folder / "000001" / "arrays" / "_CHECKPOINT_METADATA").write_text("\x1b]0;PWN\x07")
    signed(folder / "000001")
    restored(folder)
    assert "PWN" not in caplog.text


def test_arrays_that_cannot_be_read_are_told_in_one_line(saved, tmp_path, caplog):
    """Orbax reads them side by side, and leaves the others alone when one fails: nothing of that is printed."""
    whole = Counter()
    for file in sorted(file.relative_to(saved) for file in saved.glob("000001/arrays/**/d/*")):
        for left in (0.0, 0.3, 0.9):
            folder = shutil.copytree(saved, tmp_path / "c")
            os.truncate(folder / file, int(left * (saved / file).stat().st_size))
            signed(folder / "000001")
            found, lines = restored(folder)
            whole[found is None] += 1
            assert (found is None) == ("is damaged and is passed over" in lines)
            shutil.rmtree(folder)
    assert whole[True] > 2
    assert caplog.text == ""


def test_folders_that_are_no_checkpoints_stay(tmp_path):
    for name in ("\u00b2\u00b2\u00b2\u00b2\u00b2\u00b2", "20240101", "20240102"):
        (tmp_path / name).mkdir()
    store = Checkpoints(tmp_path, 1, "x")
    with store.locked():
        assert store.restore(lambda *_: LIKE, lambda line: None) is None
        for _ in range(3):
            store.save(LIKE, {"epoch": 1}, wait=True)
    assert len(list(tmp_path.glob("2024*"))) == 3
    assert (tmp_path / "20240101").is_dir()


def test_a_model_that_does_not_fit_into_memory(tmp_path):
    path = tmp_path / "a.safetensors"
    header = b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 1 << 43)
    with pytest.raises(ValueError, match=r"a\.safetensors.*do not fit into memory"):
        saving.load(path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"name": "x"}', "\udcff"])
def test_a_damaged_card_of_the_zoo(text, tmp_path, monkeypatch):
    (tmp_path / "x.json").write_bytes(text.encode("utf8", "surrogateescape"))
    monkeypatch.setattr(_shelf, "SHELF", tmp_path)
    with pytest.raises(ValueError, match=r"x\.json"):
        zoo.load("x")
    refused(spyx("zoo", "list"), "x.json")
    refused(spyx("zoo", "eval", "x"), "x.json")
