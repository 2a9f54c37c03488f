// Several runs beside each other; those that differ in the seed alone are one line with its spread.

function comparedSection(content) {
  const groups = list(content.groups), names = list(content.differing);
  const spread = (v, unit) => (v ? `${shown(v.mean)}${v.count > 1 ? ` \u00b1 ${shown(v.deviation, 2)}` : ""}${unit}` : "\u2013");
  const best = Math.max(...groups.map((g) => num(g.accuracy && g.accuracy.mean)).filter(Number.isFinite), 0);
  const body = groups.map((g, n) => el("tr", null,
    el("th", { scope: "row" }, sample(`c${n % COLOURS}`, DASHES[Math.floor(n / COLOURS) % DASHES.length]), " ", told(g.name, 60)),
    el("td", { class: "n" }, spread(g.accuracy, " %"), barUnder(num(g.accuracy && g.accuracy.mean) / best, n)),
    el("td", { class: "n" }, spread(g.loss, "")), el("td", { class: "n" }, spread(g.seconds, " s")), el("td", null, short(list(g.seeds).join(", "), 40)),
    names.map((name) => el("td", null, told(g.settings && g.settings[name] !== undefined ? g.settings[name] : "", 60))),
    el("td", null, list(g.folders).slice(0, 20).map((f) => el("div", null, told(f, 80))))));
  return [el("p", { class: "lead" }, content.about || ""),
    el("div", { class: "card" }, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" },
      el("table", { class: "settings runs" }, el("caption", { class: "unseen" }, "Runs, the most accurate first"),
        el("thead", null, el("tr", null, ["runs", "test accuracy", "test loss (nats)", "training time"].map((h, n) => el("th", { scope: "col", class: n ? "n" : null }, h)),
          el("th", { scope: "col" }, "seeds"), names.map((name) => el("th", { scope: "col" }, told(name, 60))), el("th", { scope: "col" }, "folders"))),
        el("tbody", null, body))))];
}

function barUnder(share, n) {
  const inner = el("span", { class: `fill c${n % COLOURS}` });
  inner.style.setProperty("width", `${Number.isFinite(share) ? 100 * share : 0}%`);
  return el("span", { class: "rail thin", "aria-hidden": "true" }, inner);
}

function comparedCurves(charts) {
  return [el("div", { class: "charts three" }, list(charts).map((c, k) => lineChart({
    id: `compare-${k}`, group: "epochs", title: c.title, unit: c.unit, along: "epoch", xs: list(c.epochs), quiet: true, log: c.title === "Accuracy" ? null : false, most: c.title === "Accuracy" ? 100 : undefined,
    series: list(c.series).map((s, n) => ({ ...s, colour: n })),
  })))];
}
