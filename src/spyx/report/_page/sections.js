// What stands around the charts: numbers at the top, confusion, findings, settings and how to run it again.

function tiles(results) {
  return el("dl", { class: "tiles" }, results.map((r) => el("div", { class: "tile" },
    el("dt", null, short(r.name, 60)),
    el("dd", null, el("span", { class: "value" }, typeof r.value === "string" && Number.isNaN(num(r.value)) && r.value !== "NaN" ? short(r.value, 40) : shown(r.value)),
      r.unit && el("span", { class: "of" }, ` ${short(r.unit, 20)}`)),
    r.about && el("dd", { class: "about" }, short(r.about, 90)))));
}

function curvesSection(curves, live) {
  const charts = list(curves.charts).filter((c) => list(c.series).length);
  if (!charts.length || !list(curves.epochs).length) return [el("p", { class: "card" }, live ? "No epoch yet: the first curve appears when it ends." : "No epoch was recorded.")];
  const thin = curves.of > curves.epochs.length ? el("p", { class: "note" }, `${curves.epochs.length} of ${shown(curves.of, 7)} epochs are drawn.`) : null;
  const colour = { training: 0, validation: 1 };
  return [
    el("div", { class: "charts" }, charts.map((c, n) => lineChart({
      id: `curve-${n}`, group: "epochs", title: c.title, unit: c.unit, along: "epoch", xs: curves.epochs, marks: c.marks,
      most: c.title === "Accuracy" ? 100 : undefined, log: c.title === "Accuracy" ? null : false,
      series: list(c.series).map((s, k) => ({ ...s, colour: colour[s.role] ?? k + 2, dash: s.role === "validation" && curves.epochs.length <= 80 ? "7 4" : undefined })),
    }))), thin];
}

function layersSection(layers) {
  const all = list(layers.layers), xs = list(layers.epochs);
  const about = { rate: ["Firing rate", "spikes per unit and time step (%)"], silent: ["Silent units", "share of units without a spike (%)"], gradient: ["Gradient", "L2 norm over the layer's parameters (loss per parameter unit)"] };
  const charts = Object.entries(about).map(([key, [title, unit]]) => {
    const series = all.map((l, n) => ({ name: l.name, values: l[key], colour: n })).filter((s) => list(s.values).some((v) => Number.isFinite(num(v))));
    return series.length ? lineChart({ id: `layers-${key}`, group: "epochs-of-layers", title, unit, along: "epoch", xs, series, log: key === "gradient" ? true : key === "rate" ? false : null, most: key === "gradient" ? undefined : 100, quiet: true }) : null;
  });
  const left = layers.left_out ? ` ${layers.left_out} more layers are not shown.` : "";
  return [el("p", { class: "lead" }, `${layers.note || ""}${left}`), el("div", { class: "charts three" }, charts)];
}

function confusionSection(confusion) {
  const names = list(confusion.classes), word = (k) => (names[k] === undefined ? String(k) : short(names[k], 24));
  const support = list(confusion.support), hits = list(confusion.hits), predicted = list(confusion.predicted);
  const found = [];
  const counts = confusion.counts;
  if (Array.isArray(counts) && counts.length) {
    const wide = counts.length > 14, tall = counts.length > 7 && counts.some((_, k) => word(k).length > 3);
    const body = counts.map((row, t) => el("tr", null, el("th", { scope: "row" }, el("bdi", null, word(t))), list(row).map((n, a) => {
      const share = support[t] ? n / support[t] : 0;
      const cell = el("td", { class: t === a ? "hit" : "miss", title: `${shown(n, 7)} of ${shown(support[t], 7)} ${confusion.unit} of class ${word(t)} predicted ${word(a)} (${percent(100 * share)})` }, n ? shown(n, 7) : "");
      cell.style.setProperty("--share", n ? String(0.12 + 0.88 * Math.sqrt(share)) : "0");
      if (n && share > 0.8) cell.classList.add("full");
      if (n && share > 0.25) cell.classList.add("half");
      return cell;
    })));
    found.push(el("div", { class: wide ? "card whole" : "card" },
      el("p", { class: "unit" }, `rows: true class; columns: prediction; numbers: ${confusion.unit}; colour: share of the row`),
      el("div", { class: "scroll high", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
        el("table", { class: `matrix${wide ? " small" : ""}` }, el("caption", { class: "unseen" }, "Confusion matrix: true classes in rows, predictions in columns"),
          el("thead", null,
            el("tr", null, el("td", { class: "empty" }), el("th", { scope: "colgroup", colspan: names.length, class: "over" }, "prediction")),
            el("tr", null, el("th", { scope: "col", class: "corner" }, "true"), counts.map((_, a) => el("th", { scope: "col", class: tall ? "tall" : null }, el("bdi", null, word(a)))))),
          el("tbody", null, body)))));
  }
  const pairs = list(confusion.pairs);
  const most = pairs.length ? table("Most frequent confusions", ["true class \u2192 prediction", confusion.unit, "share of the class"],
    pairs.slice(0, 8).map((p) => [[el("bdi", null, word(p.truth)), " \u2192 ", el("bdi", null, word(p.prediction))], shown(p.count, 7), percent(100 * p.count / (support[p.truth] || 1))]))
    : el("p", null, hits.some((n) => n) || !support.length ? "No confusion: every prediction is right." : "Nothing was counted.");
  const perClass = support.length ? folded("confusion.classes", "Every class as a table", () => table("Scores of every class",
    ["class", confusion.unit, "found (recall, %)", "right when predicted (precision, %)"],
    support.map((n, k) => [el("bdi", null, word(k)), shown(n, 7), n ? percent(100 * hits[k] / n) : "\u2013", predicted[k] ? percent(100 * hits[k] / predicted[k]) : "\u2013"]))) : null;
  found.push(el("div", { class: "card" }, el("h3", null, "Most frequent confusions"), most, perClass));
  const outside = confusion.outside ? ` ${shown(confusion.outside, 7)} ${confusion.unit} have a label that is no class of the output and are left out.` : "";
  const what = confusion.counts ? "" : " There are too many classes for a matrix.";
  return [el("p", { class: "lead" }, `Counted on the ${short(confusion.part)} part.${what}${outside}`), el("div", { class: "beside" }, found)];
}

function findingsSection(findings) {
  const items = list(findings.items);
  const grade = (w) => (num(w) >= 90 ? ["stops", "stops learning"] : num(w) >= 70 ? ["slows", "serious"] : ["minor", "minor"]);
  const lead = el("p", { class: "lead" }, findings.about || "");
  if (!items.length) return [lead, el("p", { class: "card healthy" }, el("b", null, "\u2713 Nothing found. "), "Input, labels, activity and gradients look healthy.")];
  return [lead, el("ol", { class: "findings" }, items.map((f) => {
    const [kind, word] = grade(f.weight);
    return el("li", { class: `card finding ${kind}` },
      el("h3", null, el("span", { class: "badge" }, word), " ", told(f.what), el("span", { class: "where" }, " at ", told(f.where, 80))),
      el("p", null, told(f.number), ". ", told(f.why)),
      el("p", { class: "try" }, el("b", null, "Try: "), told(f.change)));
  }))];
}

function settingsSection(settings) {
  const body = el("tbody"), count = el("p", { class: "note", "aria-live": "polite" });
  const search = el("input", { type: "search", id: "find", "data-key": "settings.find", autocomplete: "off", spellcheck: "false" });
  const differing = settings.some((s) => s.changed);
  const only = differing && toggle("settings.changed", "Only changed", false, fill);
  function fill() {
    chosen.set("settings.text", search.value);
    const wanted = search.value.toLowerCase();
    const rows = settings.filter((s) => (!choice("settings.changed", false) || s.changed) && `${s.name} ${s.value}`.toLowerCase().includes(wanted));
    body.replaceChildren(...rows.map((s) => el("tr", { class: s.changed ? "changed" : null }, el("th", { scope: "row" }, told(s.name, 80)),
      el("td", null, s.changed && el("span", { class: "badge changed", title: "differs from the default" }, "changed"), s.changed && " ", s.value === null ? "none" : typeof s.value === "string" ? (s.value === "" ? el("i", null, "empty") : told(s.value)) : typeof s.value === "number" ? shown(s.value, 9) : String(s.value)))));
    count.textContent = rows.length === settings.length ? `${rows.length} settings` : `${rows.length} of ${settings.length} settings`;
  }
  search.value = choice("settings.text", "");
  search.addEventListener("input", fill);
  fill();
  return [el("div", { class: "card" },
    el("div", { class: "tools between" }, el("label", { class: "field", for: "find" }, "Find ", search), only),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings" },
      el("table", { class: "settings" }, el("caption", { class: "unseen" }, "Settings"),
        el("thead", null, el("tr", null, el("th", { scope: "col" }, "setting"), el("th", { scope: "col" }, "value"))), body)),
    count)];
}

function againSection(content) {
  const found = [];
  if (content.command) found.push(el("div", { class: "card" }, el("h3", null, "Command"), copyable("Command", content.command),
    content.config && folded("config", "config.toml, complete", () => copyable("config.toml", content.config))));
  const versions = list(content.versions);
  if (versions.length) found.push(el("div", { class: "card" }, el("h3", null, "Versions and machine"),
    el("dl", { class: "facts" }, versions.map(([name, value]) => el("div", null, el("dt", null, short(name, 60)), el("dd", null, told(value)))))));
  return [el("div", { class: "beside" }, found)];
}
