"""The page of a run without a browser: one file, no address, no markup from texts, and what its numbers say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from flax import nnx

from report.page.runs import HISTORY, HOSTILE, data, network, watched, write_hostile, write_ordinary
from spyx import fn, nn, report
from spyx.report._page import content as of
from spyx.report._page.document import LARGEST, policy, read_content, render
from spyx.report._page.jsonable import number, plain
from spyx.report._page.observed import choose
from spyx.report._page.rows import row_of

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(HTMLParser):
    """Every element of a page, and whether all that are opened are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.texts: dict[int, str] = {}

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("script", "style"):
            self.texts[len(self.elements) - 1] = self.texts.get(len(self.elements) - 1, "") + text


def read(path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """An ordinary and a hostile page."""
    folder = tmp_path_factory.mktemp("pages")
    return {"ordinary": write_ordinary(folder / "ordinary"), "hostile": write_hostile(folder / "hostile.html")}


@pytest.mark.parametrize("name", ["ordinary", "hostile"])
def test_a_page_is_one_file_without_an_address(pages, name):
    page = read(pages[name])
    assert pages[name].stat().st_size < 3_000_000
    allowed = {"a": "#main", "link": "data:,"}
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "object", "embed", "form", "base")
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
        for key in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(key, allowed.get(tag)) == allowed.get(tag)
    source = pages[name].read_text()
    style = source[source.index("<style>") : source.index("</style>")]
    assert not re.search(r"@import|url\(", style)
    script = source[source.rindex("<script>") :]
    assert not re.search(r"\beval\b|innerHTML|outerHTML|insertAdjacentHTML|document\.write|new Function", script)
    assert set(re.findall(r"https?://[\w./]+", script)) == {"http://www.w3.org/2000/svg"}  # a namespace


@pytest.mark.parametrize("name", ["ordinary", "hostile"])
def test_the_policy_allows_this_script_and_style_alone(pages, name):
    page = read(pages[name])
    (rule,) = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(part.strip().split(" ", 1) for part in rule.split(";"))
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag in ("script", "style"):
        (at,) = [n for n, (t, a) in enumerate(page.elements) if t == tag and a.get("type") != "application/json"]
        digest = base64.b64encode(hashlib.sha256(page.texts[at].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "connect-src 'self'" in policy(live=True)


def test_hostile_texts_are_data_and_come_back_whole(pages):
    page = read(pages["hostile"])
    kinds = [a.get("type") for tag, a in page.elements if tag == "script"]
    assert kinds == ["application/json", None]
    (data_at,) = [n for n, (t, a) in enumerate(page.elements) if a.get("id") == "content"]
    block = page.texts[data_at]
    assert not re.search("[<>&\x7f-\U0010ffff]", block)
    content = json.loads(block, parse_constant=lambda name: pytest.fail(name))
    values = {row["value"] for row in content["settings"]}
    assert set(HOSTILE) <= values
    assert {"NaN"} < values
    assert content["title"] == HOSTILE[1]
    assert content["samples"]["classes"] == HOSTILE[:3]
    assert read_content(pages["hostile"].read_text()) == content
    assert len(next(v for v in values if str(v).startswith("1000"))) < 11_000


def test_what_a_page_shows_of_a_network(pages):
    content = read_content(pages["ordinary"].read_text())
    x, y = data()
    outs, _ = nn.run(network(), x)
    predictions = np.asarray(outs.sum(1).argmax(-1))
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (y, predictions), 1)
    assert content["confusion"]["counts"] == counts.tolist()
    assert content["samples"]["right"] == int((predictions == y).sum())
    for item in content["samples"]["items"]:
        assert (item["truth"], item["prediction"]) == (y[item["index"]], predictions[item["index"]])
        assert item["right"] == (item["truth"] == item["prediction"])
        assert [row["name"] for row in item["rows"]] == ["input", "1 LIF", "3 LI"]
        assert item["rows"][0]["count"] == int(x[item["index"]].sum())
    assert {item["right"] for item in content["samples"]["items"]} == {True, False}
    counted = report.cost(network(), x)
    assert content["energy"]["total"]["effective_acs"] == pytest.approx(counted.total("effective_acs"), rel=1e-4)
    assert [m["name"] for m in content["energy"]["models"]] == list(report.MODELS)
    found = report.doctor(network(), (x, y))
    assert [f["what"] for f in content["findings"]["items"]] == [f.what for f in found]
    assert {row["name"]: row["value"] for row in content["settings"]} == {"hidden": "7", "raster.bin_ms": 2.0}
    loss, accuracy = content["curves"]["charts"]
    assert loss["series"][0]["values"] == [number(epoch["train_loss"]) for epoch in HISTORY]
    assert accuracy["series"][0]["values"][0] == pytest.approx(40)
    assert [layer["name"] for layer in content["layers"]["layers"]] == ["0 Linear", "1 LIF", "2 Linear", "3 LI"]


def test_spikes_are_packed_as_the_page_reads_them():
    spikes = (np.random.default_rng(1).random((11, 13)) < 0.3).astype(np.float32)
    row = row_of("1 LIF", spikes, last=False)
    columns, units = row["shape"]
    packed = np.frombuffer(base64.b64decode(row["data"]), np.uint8)
    bits = [
        [packed[(u * columns + c) >> 3] >> (7 - ((u * columns + c) & 7)) & 1 for u in range(units)] for c in range(11)
    ]
    np.testing.assert_array_equal(bits, spikes)
    assert row["count"] == spikes.sum()


def test_large_layers_are_thinned_and_say_so():
    spikes = np.zeros((5000, 3000), np.float32)
    spikes[7, 0] = 1
    row = row_of("1 LIF", spikes, last=False)
    assert len(row["data"]) < 60_000
    assert (row["steps"], row["units"], row["count"]) == (5000, 3000, 1)
    assert row["bin"] == 5
    assert row["stride"] >= 12
    assert base64.b64decode(row["data"])[0] == 0b01000000  # step 7 is in the second bin
    graded = row_of("input", np.random.default_rng(0).random((5000, 300)), last=False)
    assert len(graded["data"]) < 60_000
    lines = row_of("2 LI", np.random.default_rng(0).random((900, 40)) + np.arange(40), last=True, marked=(3,))
    assert lines["classes"][:2] == [3, 39]
    assert len(lines["classes"]) == 12
    assert len(lines["lines"][0]) == 300


def test_a_page_stays_small(tmp_path):
    x, y = np.ones((40, 1000, 300), np.float32), np.arange(40) % 2
    x[:, :, ::2] = 0
    model = nn.Sequential(
        nn.Linear(300, 256, rngs=nnx.Rngs(0)), nn.LIF(256, beta=0.9), nn.Linear(256, 2, rngs=nnx.Rngs(1)), nn.LI(2)
    )
    history = [{"train_loss": 1.0, "eval_loss": 1.0, "eval_acc": 0.5}] * 20_000
    settings = {f"setting {n}": "\u0645" * 10_000 for n in range(60)}
    path = report.write_page(tmp_path, history, model=model, data=(x[:3], y[:3]), settings=settings)
    assert path.stat().st_size < 3_000_000
    content = read_content(path.read_text())
    assert len(content["curves"]["epochs"]) <= of.MOST_EPOCHS
    assert content["curves"]["epochs"][-1] == content["curves"]["of"] == 20_000
    assert "larger than 3 MB" in content["missing"]["samples"]
    assert len(render({"format": of.FORMAT, "kind": "run"})) < LARGEST / 20


def test_samples_of_every_class_and_median_size_come_first():
    x = np.zeros((6, 4, 3))
    for index, events in enumerate((1, 5, 9, 4, 6, 2)):
        x[index].flat[:events] = 1
    y = np.array([0, 0, 0, 1, 1, 1])
    predictions = np.array([0, 0, 1, 1, 0, 1])
    chosen = choose(x, y, predictions, 4)
    assert set(chosen[:2]) == {1, 3}  # one right sample of each class, nearest to the median of 4.5 events
    assert set(chosen[2:]) == {2, 4}
    assert choose(x, y, y, 4)[2:] == []


@pytest.mark.parametrize(
    ("history", "said"), [([], "empty"), ([{"train_loss": float("nan")}], "one"), ([{"mine": 1.0}], "own")]
)
def test_histories_with_little_in_them(history, said, tmp_path):
    content = read_content(report.write_page(tmp_path / said, history, title=said).read_text())
    assert content["curves"]["of"] == len(history)
    assert content["title"] == said


def test_a_section_that_fails_says_so_and_leaves_the_others(tmp_path, monkeypatch):
    def broken(*given, **more):
        raise ZeroDivisionError("<b>no</b>")

    monkeypatch.setattr("spyx.report._page.writer.doctor", broken)
    content = read_content(
        report.write_page(tmp_path, HISTORY, model=network(), data=data(), train_data=data()).read_text()
    )
    assert content["missing"] == {"findings": "ZeroDivisionError: <b>no</b>"}
    assert content["energy"]["layers"]


def test_labels_that_are_no_classes_are_counted_and_said(tmp_path):
    x, y = data()

    def content(y):
        return read_content(report.write_page(tmp_path, HISTORY, model=network(), data=(x, y)).read_text())

    odd = np.where(np.arange(30) < 4, 7, y)
    found = content(odd)["confusion"]
    assert (found["outside"], np.sum(found["counts"])) == (4, 26)
    assert content(odd.astype(np.float32))["confusion"] == found
    assert content(y)["confusion"]["outside"] == 0
    assert content(y + 0.5)["missing"]["samples"].endswith("labels that are whole numbers, and these are not")


def test_labels_per_step_and_lengths(tmp_path):
    x, _ = data()
    lengths = np.full(30, 6)
    lengths[:3] = 9
    y = np.tile(np.arange(9) % 3, (30, 1))
    y[:, 0] = -1
    content = read_content(
        report.write_page(tmp_path, HISTORY, model=network(), data=(x, y), lengths=lengths).read_text()
    )
    assert content["missing"] == {}
    assert np.sum(content["confusion"]["counts"]) == 3 * 8 + 27 * 5
    assert {len(item["labels"]) for item in content["samples"]["items"]} <= {6, 9}
    assert content["confusion"]["unit"] == "time steps"


def test_rates_and_gradients_of_layers():
    model, (x, y) = network(), data()
    watch = watched(model)
    import jax

    def loss(params):
        copy = nnx.merge(graphdef, params, rest, copy=True)
        copy.eval()
        return fn.integral_crossentropy()(nn.run(copy, x[:4])[0], y[:4])

    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    grads = nnx.to_pure_dict(jax.grad(loss)(params))["layers"][0]
    norm = np.sqrt(sum(float((g**2).sum()) for g in grads.values()))
    activity = report.record(model, x[:4])["1"]
    first, lif = watch.rows[:2]
    assert first["gradient"] == pytest.approx(norm, rel=1e-4)
    assert np.isnan(first["rate"])
    assert (lif["epoch"], lif["layer"]) == (1, "1 LIF")
    assert lif["rate"] == pytest.approx(activity.rate, rel=1e-5)
    assert lif["silent"] == pytest.approx(activity.silent)
    assert np.isnan(watch.rows[3]["rate"])  # a readout does not spike


def test_layers_are_watched_by_own_losses_lengths_and_every_few_epochs():
    x, y = data()
    asked = []

    def loss_fn(model, x, y, lengths):
        asked.append(lengths.shape)
        return fn.integral_crossentropy()(nn.run(model, x, lengths=lengths)[0], y, lengths=lengths)

    watch = report.LayerHistory(loss_fn, (x[:2], y[:2], np.array([9, 3])), every=2)
    for epoch in range(4):
        watch(epoch, network())
    assert [row["epoch"] for row in watch.rows[::4]] == [1, 2, 4]
    assert asked == [(2,)]
    seen = report.record(network(), x[:2])["1"]["spikes"]
    assert watch.rows[1]["rate"] == pytest.approx((seen[0].sum() + seen[1, :3].sum()) / (12 * 7))


def test_wrong_batches_are_refused():
    x, y = data()
    for batch in (x, (x,), (x[:0], y[:0])):
        with pytest.raises(ValueError, match=r"LayerHistory\(batch=\): expected \(x, y\)"):
            report.LayerHistory(fn.integral_crossentropy(), batch)
    with pytest.raises(ValueError, match=r"LayerHistory\(every=\): expected 1 or more; got 0"):
        report.LayerHistory(fn.integral_crossentropy(), (x, y), every=0)


def test_numbers_for_json():
    assert plain(True) is True
    assert plain(np.float32(0.5)) == 0.5
    assert plain([1, float("inf")]) == "1, Infinity"
    assert plain(None) is None
    assert (
        json.dumps([number(v) for v in (np.nan, np.inf, -np.inf, 1e-300)]) == '["NaN", "Infinity", "-Infinity", 1e-300]'
    )


def test_another_file_is_no_page(tmp_path):
    assert read_content("<html></html>") is None
    assert read_content('<script type="application/json" id="content">[1]</script>') is None
    assert read_content('<script type="application/json" id="content">{"format": 99}</script>') is None
    assert read_content('<script type="application/json" id="content">' + "[" * 100_000 + "</script>") is None
