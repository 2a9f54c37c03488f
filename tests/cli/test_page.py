"""`report.html` of every run, `spyx serve` while it trains, `spyx compare --page`."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest

from cli.conftest import spyx
from cli.test_compare import run
from spyx.cli import page, serve
from spyx.cli import train as training
from spyx.cli.config import AugmentTable, Config, make_config
from spyx.report._page.document import read_content

SHORT = ("--epochs", 2, "--hidden", 8, "--steps", 4, "--batch-size", 629)


def content_of(folder):
    return read_content((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_of_the_default_run(default_run):
    folder, printed = default_run
    content, metrics = content_of(folder), json.loads((folder / "metrics.json").read_text())
    assert "report.html" in "".join(printed.split())
    assert (content["status"], content["missing"]) == ("finished", {})
    assert (folder / "report.html").stat().st_size < 300_000
    loss, accuracy = content["curves"]["charts"]
    assert [s["name"] for s in loss["series"]] == ["training", "validation"]
    assert loss["series"][1]["values"][-1] == pytest.approx(metrics["epochs"][-1]["eval_loss"], rel=1e-4)
    assert {m["name"] for m in accuracy["marks"]} == {"test, after the last epoch", "chance"}
    results = {r["name"]: r["value"] for r in content["results"]}
    assert results["test accuracy"] == pytest.approx(100 * metrics["test_accuracy"], abs=0.01)
    assert sum(map(sum, content["confusion"]["counts"])) == content["samples"]["count"] == 180
    assert content["samples"]["right"] == round(180 * metrics["epochs"][-1]["eval_acc"])
    assert content["findings"]["items"] == []
    assert content["energy"]["layers"][0]["name"] == "0 Linear"
    assert [layer["name"] for layer in content["layers"]["layers"]] == ["0 Linear", "1 LIF", "2 Linear", "3 LI"]
    measured = content["layers"]["epochs"]
    assert (measured[0], measured[-1], sorted(set(measured))) == (1, 40, measured)
    with (folder / "layers.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["layer"] == "1 LIF"]
    assert content["layers"]["layers"][1]["rate"][-1] == pytest.approx(100 * float(rows[-1]["rate"]), rel=1e-4)
    assert content["config"] == (folder / "config.toml").read_text()
    assert {"jax", "python", "device"} <= {name for name, _ in content["versions"]}


@pytest.mark.parametrize(
    "config",
    [
        Config(encoder="latency"),
        Config(dataset="yinyang", encoder="direct", epochs=60, batch_size=64, seed=3),
        Config(dataset="nmnist", data="a b/c'd", hidden=(64, 32), neuron="ALIF", beta=0.5, delays=3),
    ],
)
def test_the_command_trains_the_same_again(config, monkeypatch):
    given = []
    monkeypatch.setattr(training, "train", lambda config, output, console, spread: given.append(config))
    words = shlex.split(page.command_of(config))
    assert words[0] == "spyx"
    assert spyx(*words[1:]).exit_code == 0
    assert given == [config]


def test_what_no_option_can_say_needs_the_file():
    assert page.command_of(Config(clip=1.0)) == "spyx train --config config.toml"
    assert page.command_of(Config(augment=AugmentTable(shift_time=1))) == "spyx train --config config.toml"


def test_a_page_that_fails_is_one_line_and_no_failed_run(tmp_path, monkeypatch):
    def broken(*given, **more):
        raise ValueError("[no] page")

    for name in ("begin", "finish"):
        monkeypatch.setattr(training.page, name, broken)
    monkeypatch.setattr(page.report.LayerHistory, "__call__", broken)
    result = spyx("train", *SHORT, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("no page: [no] page") == 2
    assert result.stdout.count("rates and gradients of layers are not written any more: [no] page") == 1
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert not (tmp_path / "run" / "report.html").exists()


def test_the_rows_of_layers_that_a_resumed_run_starts_with(tmp_path, default_run):
    folder, _ = default_run
    whole = (folder / "layers.csv").read_text().splitlines(keepends=True)
    before = [line for line in whole[1:] if int(line.split(",")[0]) <= 25]
    (tmp_path / "layers.csv").write_text(
        "".join(whole) + "41,1 LIF,0.5"
    )  # the last row was cut by the end of the process

    class Data:
        def part(self, name):
            return np.zeros((80, 4, 3)), np.zeros(80, int), None

    log = page.LayerLog(tmp_path, Config(epochs=40), Data(), pytest.fail)
    log.start(25)
    assert (tmp_path / "layers.csv").read_text() == "".join([whole[0], *before])
    assert log.history.samples == 2


def test_what_a_folder_says_while_it_is_trained(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for holder, status in (("", "training"), (str(os.getpid()), "training"), (str(2**22 + 1), "stopped")):
        (tmp_path / "checkpoints" / "lock").write_text(holder)
        (tmp_path / "config.toml").write_text(Config(epochs=9).to_toml())
        assert serve.now(tmp_path, Config(epochs=9))["status"] == status
    (tmp_path / "config.toml").write_text(Config(epochs=9).to_toml())
    (tmp_path / "metrics.csv").write_text(
        "epoch,train_loss,eval_loss,eval_acc\n1,2.0,nan,0.5\n<b>,x,y,z\n2,1.0,1.5,0.75\n3,0."
    )
    (tmp_path / "layers.csv").write_text("epoch,layer,rate,silent,gradient\n1,<i>,0.5,0,inf\n,,,,\n1,b\n")
    content = page.current(tmp_path, page.settings_of(tmp_path))
    assert content["status"] == "training"
    assert content["curves"]["charts"][0]["series"][1]["values"] == ["NaN", 1.5]
    assert content["layers"]["layers"] == [{"name": "<i>", "rate": [50.0], "silent": [0.0], "gradient": ["Infinity"]}]
    (tmp_path / "report.html").write_text(
        '<script type="application/json" id="content">{"format": 1, "watched": "x"}</script>'
    )
    assert page.current(tmp_path, Config())["curves"]["of"] == 2


def test_a_run_with_a_neuron_of_ones_own_is_shown_without_loading_it(tmp_path):
    (tmp_path / "config.toml").write_text(Config(neuron="nowhere:Mine").to_toml())
    assert page.settings_of(tmp_path).neuron == "nowhere:Mine"
    assert "--neuron nowhere:Mine" in page.command_of(page.settings_of(tmp_path))


@pytest.fixture
def server():
    """A server of a small page."""
    with serve.Server(0, lambda: {"format": 1, "kind": "run", "title": "</script>"}) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server, path="/", method="GET", **headers):
    """Status, headers and body, spoken on a socket: a client library would correct what is wrong."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    with socket.create_connection((serve.LOOPBACK, server.server_port), timeout=10) as connection:
        connection.sendall(("\r\n".join([*lines, "Connection: close", "", ""])).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body


def test_the_server_gives_the_page_and_its_content_and_nothing_else(server):
    host = f"127.0.0.1:{server.server_port}"
    status, head, body = ask(server, Host=host)
    assert status == 200
    assert (
        b"</script>" not in body[body.index(b'id="content">') : body.index(b"</script>", body.index(b'id="content">'))]
    )
    assert re.search("Content-Security-Policy: default-src 'none'.*frame-ancestors 'none'", head)
    assert "X-Content-Type-Options: nosniff" in head
    assert "Access-Control" not in head
    status, head, body = ask(server, "/content.json", Host=f"localhost:{server.server_port}")
    assert (status, json.loads(body)["title"]) == (200, "</script>")
    mark = re.search(r"ETag: (\S+)", head)[1]
    assert ask(server, "/content.json", Host=host, If_None_Match=mark)[::2] == (304, b"")
    assert ask(server, "/", method="HEAD", Host=host)[2] == b""
    for path in (
        "/config.toml",
        "/weights.safetensors",
        "/../config.toml",
        "/?x",
        "/content.json/..",
        "/%2e%2e/etc/passwd",
    ):
        assert ask(server, path, Host=host)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, method=method, Host=host)[0] == 501


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{}", "0.0.0.0:{}", ""]
)
def test_other_names_than_its_own_are_refused(server, host):
    status, _, body = ask(server, "/content.json", Host=host.format(server.server_port))
    assert (status, body) == (421, b"This server responds to its own name alone.\n")


def test_no_name_and_two_names_are_refused(server):
    assert ask(server)[0] == 421
    own = f"127.0.0.1:{server.server_port}"
    assert ask(server, Host=own, HOST="evil.example")[0] == 421


def test_it_listens_on_loopback_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_spyx_serve_ends_with_ctrl_c(default_run):
    command = [sys.executable, "-m", "spyx", "serve", str(default_run[0])]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = ""
        while "http://" not in address:
            address = started.stdout.readline()
            assert address, started.stderr.read()
        url = re.search(r"http://127\.0\.0\.1:\d+", address)[0]
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert read_content(answer.read().decode())["status"] == "finished"
        time.sleep(0.3)
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == 0
    finally:
        started.kill()
        started.communicate()


def test_mistakes_of_serve(tmp_path, default_run):
    assert "is not a run" in spyx("serve", tmp_path).stderr
    assert (
        "--port: expected a number from 0 to 65535; got 70000" in spyx("serve", default_run[0], "--port", 70000).stderr
    )
    with socket.socket() as taken:
        taken.bind((serve.LOOPBACK, 0))
        taken.listen()
        result = spyx("serve", default_run[0], "--port", taken.getsockname()[1])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "it is taken" in result.stderr


def test_a_comparison_as_a_page(tmp_path, default_run):
    config = Config(dataset="nmnist", data="/here")
    runs = [
        run(tmp_path / "a", config, 0.90),
        run(tmp_path / "<b>", replace(config, seed=1), 0.94),
        run(tmp_path / "c", replace(config, neuron="ALIF"), 0.95),
    ]
    for n, folder in enumerate(runs[:2]):
        metrics = json.loads((folder / "metrics.json").read_text())
        epochs = [{"train_loss": 1.0 + n, "eval_loss": float("nan"), "eval_acc": 0.5 + 0.2 * n}, {"train_loss": 0.5}]
        (folder / "metrics.json").write_text(json.dumps(metrics | {"epochs": epochs}))
    file = tmp_path / "all.html"
    result = spyx("compare", *runs, default_run[0], "--page", file, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)) == 3
    content = read_content(file.read_text())
    assert content["kind"] == "compare"
    assert [group["accuracy"]["count"] for group in content["groups"]] == [1, 1, 2]
    assert content["groups"][-1]["accuracy"]["mean"] == pytest.approx(92)
    assert str(tmp_path / "<b>") in content["groups"][-1]["folders"]
    loss, _, accuracy = content["charts"]
    (seeds,) = [s for s in loss["series"] if "nmnist" in s["name"] and "LIF" in s["name"] and "ALIF" not in s["name"]]
    assert (seeds["values"][:3], seeds["low"][0], seeds["high"][0]) == ([1.5, 0.5, "NaN"], 1.0, 2.0)
    assert accuracy["series"][-1]["values"][0] == 60
    again = spyx("compare", *runs, "--page", file)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "exists already and is not overwritten" in again.stderr
    assert "expected a name that ends in .html" in spyx("compare", *runs, "--page", tmp_path / "x.txt").stderr


def test_settings_of_a_page_mark_what_differs(tmp_path):
    (tmp_path / "config.toml").write_text(make_config(None, {"dataset": "braille", "data": "x", "beta": 0.5}).to_toml())
    content = page.current(tmp_path, page.settings_of(tmp_path))
    changed = {row["name"] for row in content["settings"] if row["changed"]}
    assert changed == {"data", "beta"}  # not what is tuned for this data set
