"""The page in headless Chromium: nothing is asked for, nothing fails, and everything can be done by keyboard.

Needs the package playwright (the extra `page-tests`) and a Chromium of the system; SPYX_CHROMIUM names another one.
"""

from __future__ import annotations

import os
import shutil
import threading

import pytest

from report.page.runs import HOSTILE, write_hostile, write_ordinary
from spyx.report._page.document import read_content

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the extra page-tests")
CHROMIUM = os.environ.get("SPYX_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COLOURS_OF_A_RASTER = """() => {
    const canvas = document.querySelector(".part canvas");
    const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return new Set(Array.from({ length: bytes.length / 4 }, (_, i) => bytes.slice(4 * i, 4 * i + 4).join())).size;
}"""
FOCUSED = """() => {
    const node = document.activeElement;
    if (node === document.body) return null;
    const style = getComputedStyle(node.matches(".chip input") ? node.nextElementSibling : node);
    const name = node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.[0]?.textContent || "";
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    return [`${node.tagName}.${node.className}`, name, seen];
}"""
FAINT = """() => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const lin = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const lum = (c) => 0.2126 * lin(c[0]) + 0.7152 * lin(c[1]) + 0.0722 * lin(c[2]);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const c = rgb(getComputedStyle(node).backgroundColor);
            if (c.length < 4 || c[3] === 1) return c;
        }
        return [255, 255, 255];
    };
    const found = new Set();
    for (const node of document.querySelectorAll("body *")) {
        const texts = [...node.childNodes].filter((c) => c.nodeType === 3 && c.data.trim());
        if (!node.offsetParent || node.closest("svg, .matrix, script, .unseen") || !texts.length) continue;
        const both = [lum(rgb(getComputedStyle(node).color)), lum(behind(node))];
        const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
        if (ratio < 4.5) found.add(`${node.tagName}.${node.className} ${ratio.toFixed(2)}`);
    }
    return [...found];
}"""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed, and SPYX_CHROMIUM names none")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    from spyx import report

    return {
        "ordinary": write_ordinary(folder / "ordinary"),
        "hostile": write_hostile(folder / "hostile.html"),
        "empty": report.write_page(folder / "empty", [], title=HOSTILE[3]),
        "one": report.write_page(folder / "one", [{"train_loss": 1.0, "eval_acc": 0.5}], title="one epoch"),
    }


@pytest.fixture
def opened(browser):
    """`opened(url, width, scheme)`: a page; afterwards, nothing may have been asked for, said or failed."""
    contexts, asked, told = [], [], []

    def open_page(url, width=1280, scheme="light", allow=()):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: (told.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(url)
        page.wait_for_selector("main section")
        page.wait_for_timeout(100)
        page.allowed = [url, *allow]
        return page

    yield open_page
    allowed = [a for context in contexts for page in context.pages for a in page.allowed]
    for context in contexts:
        context.close()
    assert not [url for url in asked if url not in allowed and not url.startswith("data:")]
    assert told == []


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("name", ["ordinary", "hostile", "empty", "one"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_opens_from_the_file_system(files, opened, name, width, scheme):
    page = opened(files[name].as_uri(), width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    wide = page.evaluate(
        """() => [...document.querySelectorAll("main .card, header .tile")].filter((n) => n.offsetParent
            && n.getBoundingClientRect().right > innerWidth).length"""
    )
    assert wide == 0
    assert "could not be drawn" not in page.inner_text("main")


def test_hostile_texts_are_shown_as_texts(files, opened):
    page = opened(files["hostile"].as_uri())
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, main script, b b').length") == 0
    text = page.inner_text("body")
    assert "</script><script>alert(2)</script>" in text
    assert "<img src=x onerror=alert(1)>" in text
    assert "\\u{202e}gnp.exe" in text
    assert "\\u{1b}[2J" in text
    assert not set(text) & {"\u202e", "\x1b", "\x00", "\u2028"}
    assert "\u0645\u0631\u062d\u0628\u0627" in text
    assert "x" * 300 not in page.inner_text("#settings")
    page.locator("#settings").get_by_role("button", name="all 10000 characters").last.click()
    assert "x" * 10_000 in page.inner_text("#settings")
    assert "NaN" in page.inner_text(".tiles")
    assert "NaN or infinite" in page.inner_text("#curves")


def test_hover_zoom_legend_and_log_axis(files, opened):
    page = opened(files["ordinary"].as_uri())
    plot = page.locator("#curves .plot").first
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 80)
    tip = plot.locator(".tip")
    assert tip.is_visible()
    assert "epoch 6" in tip.inner_text() or "epoch 7" in tip.inner_text()
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 90, steps=4)
    page.mouse.up()
    ticks = plot.locator(".tick").all_inner_texts()
    assert "1" not in ticks[-6:]
    reset = page.locator("#curves").get_by_role("button", name="Reset zoom").first
    assert reset.is_visible()
    reset.click()
    assert not reset.is_visible()
    before = plot.locator("path.line").first.get_attribute("d")
    page.locator("#curves").get_by_role("button", name="Log axis").first.click()
    assert plot.locator("path.line").first.get_attribute("d") != before
    lines = plot.locator("path.line").count()
    page.locator("#curves .legend button").first.click()
    assert plot.locator("path.line").count() == lines - 1


def test_samples_are_picked_and_read_by_keyboard(files, opened):
    page = opened(files["ordinary"].as_uri())
    assert "Right" in page.inner_text(".stage .verdict")
    page.locator(".chips.wrong label").first.click()
    assert "Wrong" in page.inner_text(".stage .verdict")
    chosen = page.inner_text(".stage .verdict")
    page.keyboard.press("ArrowRight")  # radio buttons
    assert page.inner_text(".stage .verdict") != chosen
    stack = page.locator(".stack")
    stack.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "time step 1" in stack.locator(".tip").inner_text()
    page.wait_for_timeout(200)
    assert "time step 1" in page.inner_text("#say")
    item = read_content(files["ordinary"].read_text())["samples"]["items"][0]
    page.locator("#sample-0").check(force=True)
    painted = page.evaluate(COLOURS_OF_A_RASTER)
    assert painted > 2
    assert f"{item['rows'][0]['count']} spikes" in page.inner_text(".part-title >> nth=0")


def test_everything_is_reached_by_tab_and_has_a_name(files, opened):
    page = opened(files["ordinary"].as_uri())
    reached = []
    for _ in range(120):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at is None:
            break
        reached.append(tuple(at))
    assert not [what for what, name, seen in reached if not name]
    assert not [what for what, name, seen in reached if not seen]
    kinds = {what for what, _, _ in reached}
    assert {"A.skip", "DIV.plot", "DIV.stack", "BUTTON.key", "DIV.scroll", "PRE.code"} <= kinds
    page.locator("#curves .plot").first.focus()
    page.keyboard.press("End")
    page.wait_for_timeout(200)
    assert "epoch 12: training 0.08333" in page.inner_text("#say")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((n) => Number(n.tagName[1]))")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert page.evaluate("[...document.querySelectorAll('table')].every((t) => t.caption)")


def test_tables_say_what_charts_show(files, opened):
    page = opened(files["ordinary"].as_uri())
    page.locator("#curves summary").first.click()
    rows = page.locator("#curves details table").first.locator("tbody tr")
    assert rows.count() == 12
    assert rows.first.inner_text().split() == ["1", "1", "1.1"]


def test_settings_are_found_and_the_theme_is_kept(files, opened):
    page = opened(files["ordinary"].as_uri())
    page.fill("#find", "raster")
    assert page.locator("#settings tbody tr").count() == 1
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    page.wait_for_selector("main section")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_page_prints_light_and_without_controls(files, opened):
    page = opened(files["ordinary"].as_uri(), scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#contents").is_visible()
    assert not page.locator(".tool").first.is_visible()


def test_contrast_of_texts(files, opened):
    """Every text has a contrast of 4.5 to what is behind it, in both themes."""
    for scheme in ("light", "dark"):
        assert opened(files["ordinary"].as_uri(), scheme=scheme).evaluate(FAINT) == []


def test_a_served_page_follows_the_run(opened):
    from spyx.cli.serve import Server
    from spyx.report._page import content as of

    history = [{"train_loss": 1.0}]

    def content():
        drawn = of.curves(history, loss_name="loss (nats)", reference={})
        return {"format": 1, "kind": "run", "title": "t", "status": "training", "epochs": 5, "curves": drawn}

    with Server(0, content) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        page = opened(f"{server.address}/", allow=[f"{server.address}/content.json"])
        assert "epoch 1 of 5" in page.inner_text("header")
        page.locator("#curves .plot").focus()
        page.get_by_role("button", name="Log axis").click()
        history.append({"train_loss": 0.5})
        page.get_by_text("epoch 2 of 5").wait_for()
        assert page.locator("#curves .plot path.line").count() == 1
        assert page.get_by_role("button", name="Log axis").get_attribute("aria-pressed") == "true"
        server.shutdown()
