// The page: sections from the content, drawn again when their part of it changes, and news from the server while live.

const SECTIONS = {
  run: [
    ["curves", "Curves", (c) => c.curves && [c.curves, c.live && c.status === "training"], ([curves, live]) => curvesSection(curves, live)],
    ["layers", "Layers over training", (c) => c.layers, layersSection],
    ["samples", "Samples", (c) => c.samples, samplesSection],
    ["confusion", "Confusion", (c) => c.confusion, confusionSection],
    ["findings", "Doctor", (c) => c.findings, findingsSection],
    ["energy", "Energy", (c) => c.energy, energySection],
    ["settings", "Settings", (c) => list(c.settings).length > 0 && c.settings, settingsSection],
    ["again", "Run it again", (c) => (c.command || list(c.versions).length > 0) && { command: c.command, config: c.config, versions: c.versions }, againSection],
  ],
  compare: [
    ["runs", "Runs", (c) => c.groups && { groups: c.groups, differing: c.differing, about: c.about }, comparedSection],
    ["curves", "Curves", (c) => list(c.charts).length > 0 && c.charts, comparedCurves],
    ["again", "Versions", (c) => list(c.versions).length > 0 && { versions: c.versions }, againSection],
  ],
};
const WAIT = { training: "It is written when the run is finished.", stopped: "The run was stopped before it was written." };
const EXPECTED = ["samples", "findings", "energy"];
const drawn = new Map();

function redraw() {
  for (const draw of [...DRAWN]) draw();
}

function theme() {
  let stored = null;
  try { stored = localStorage.getItem("spyx-theme"); } catch { /* a page from a file may have no storage */ }
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const set = (value) => { document.documentElement.dataset.theme = value; label(value); redraw(); };
  const button = el("button", { type: "button", class: "tool", "data-key": "theme" });
  const label = (value) => { button.textContent = value === "dark" ? "\u2600 Light" : "\u263e Dark"; button.setAttribute("aria-label", value === "dark" ? "Light colours" : "Dark colours"); };
  button.addEventListener("click", () => {
    stored = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("spyx-theme", stored); } catch { /* it holds for this visit */ }
    set(stored);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (!stored) set(system()); });
  document.documentElement.dataset.theme = stored === "dark" || stored === "light" ? stored : system();
  label(document.documentElement.dataset.theme);
  return button;
}

const themeButton = theme();

function head(content) {
  const words = { finished: "finished", training: "training", stopped: "stopped" };
  const status = words[content.status];
  const done = content.curves ? content.curves.of : 0;
  const progress = content.status === "training" ? el("div", { class: "progress" },
    el("progress", { max: Math.max(1, content.epochs || 1), value: done, "aria-label": "Epochs done" }), el("span", null, `epoch ${shown(done, 7)} of ${shown(content.epochs, 7)}`)) : null;
  document.title = `${visible(short(content.title, 80))} \u2013 spyx`;
  document.getElementById("top").replaceChildren(...[el("div", { class: "bar-top" },
    el("div", { class: "names" },
      el("p", { class: "brand" }, "spyx ", content.kind === "compare" ? "comparison" : "run", status && el("span", { class: `badge status ${status}` }, status),
        content.live && el("span", { class: "badge live", id: "live" }, "live")),
      el("h1", null, told(content.title, 120)), content.subtitle && el("p", { class: "subtitle" }, told(content.subtitle, 300))),
    themeButton), progress, content.note && el("p", { class: "card alert" }, told(content.note, 600)),
    list(content.results).length ? tiles(content.results) : null].filter(Boolean));
  document.getElementById("bottom").replaceChildren(el("p", null, `Written ${visible(content.written || "")} by spyx. ${content.live ? "This page asks the server on this machine alone." : "This file asks for nothing from the network."}`),
    el("p", { id: "chart-keys", class: "keys" }, "Charts: drag or + to zoom, double click or 0 to see all; arrow keys read values, with Shift ten at a time."),
    el("p", { id: "raster-keys", class: "unseen" }, "Arrow keys read time steps, plus and minus zoom, 0 shows all."));
}

function show(content) {
  head(content);
  const main = document.getElementById("main"), contents = document.getElementById("contents");
  const missing = content.missing || {}, links = [];
  let after = null;
  for (const [id, title, pick, make] of SECTIONS[content.kind] || []) {
    const part = pick(content), wait = !part && content.kind === "run" && EXPECTED.includes(id) && (WAIT[content.status] || "");
    const reason = missing[id], wanted = Boolean(part) || Boolean(reason) || Boolean(wait);
    const print = wanted ? JSON.stringify([part, reason, wait]) : "";
    const before = drawn.get(id);
    if (!before || before.print !== print) {
      const held = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : null;
      const section = el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title));
      section.hidden = !wanted;
      if (wanted) section.append(...inside(part, reason, wait, make));
      if (before) before.node.replaceWith(section);
      else if (after) after.after(section);
      else main.prepend(section);
      drawn.set(id, { node: section, print });
      if (held) [...section.querySelectorAll("[data-key]")].find((n) => n.dataset.key === held)?.focus({ preventScroll: true });
    }
    after = drawn.get(id).node;
    if (wanted) links.push(el("li", null, el("a", { href: `#${id}` }, title)));
  }
  main.querySelector("noscript")?.remove();
  contents.replaceChildren(el("ul", null, links));
  redraw();
  watchSections();
}

function inside(part, reason, wait, make) {
  if (reason) return [el("p", { class: "card alert" }, "This part could not be made: ", told(reason, 600))];
  if (!part) return [el("p", { class: "card note" }, wait)];
  try { return [make(part)].flat().filter(Boolean); } catch (error) {
    return [el("p", { class: "card alert" }, "This part could not be drawn: ", told(String(error), 300))];
  }
}

let watcher = null;
function watchSections() {
  if (watcher) watcher.disconnect();
  watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = [...document.querySelectorAll("#contents a")].find((a) => a.getAttribute("href") === `#${entry.target.id}`);
      if (!link) continue;
      if (entry.isIntersecting) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-20% 0px -60% 0px" });
  for (const section of document.querySelectorAll("main section")) watcher.observe(section);
}

// The server is asked again and again, with the mark of what is here: an unchanged run costs an empty response.
function listen(content) {
  let mark = null, silent = 0, status = content.status;
  const again = (ms) => setTimeout(ask, ms);
  async function ask() {
    const live = document.getElementById("live");
    try {
      const response = await fetch("content.json", { cache: "no-store", headers: mark ? { "If-None-Match": mark } : {} });
      if (response.status === 200) {
        mark = response.headers.get("ETag");
        const news = await response.json();
        status = news.status;
        show({ ...news, live: true });
      } else if (response.status !== 304) throw new Error(String(response.status));
      silent = 0;
      if (live) { live.textContent = "live"; live.classList.remove("lost"); }
    } catch {
      silent += 1;
      const now = document.getElementById("live");
      if (now && silent > 1) { now.textContent = "server ended"; now.classList.add("lost"); }
    }
    again(silent > 1 || status === "finished" ? 5000 : document.hidden ? 4000 : 1000);
  }
  again(1000);
}

const content = JSON.parse(document.getElementById("content").textContent);
show(content);
if (content.live === true) listen(content);
addEventListener("beforeprint", redraw);
addEventListener("afterprint", redraw);
