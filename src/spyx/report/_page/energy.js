// Operations by layer, and what they cost beside a quantised network of the same shape.

function energySection(energy) {
  const models = list(energy.models), layers = list(energy.layers);
  const most = Math.max(...models.map((m) => Math.max(num(m.total), num(m.twin))).filter(Number.isFinite), 0);
  const cards = models.map((m) => {
    const spiking = num(m.total), twin = num(m.twin), ratio = spiking / twin;
    const top = Math.max(spiking, twin);
    const verdict = !Number.isFinite(ratio) || ratio === 0 ? "no comparison"
      : `${shown(ratio, 3)} \u00d7 the energy of the quantised network`;
    return el("div", { class: "card model" },
      el("h3", null, short(m.name, 60)),
      el("p", { class: ratio < 1 ? "verdict right" : "verdict wrong" }, el("b", null, verdict)),
      bar("this network", spiking, top, joule(spiking), "c0"),
      bar(`quantised, ${m.bits} bits`, twin, top, joule(twin), "c1"),
      evenOf(m),
      el("p", { class: "note" }, told(m.scope), " (", told(m.source), ")"));
  });
  const head = ["layer", "dense", "effective ACs", "effective MACs", "updates", "active (%)", "parameters"];
  const row = (l) => [short(l.name, 60), ...["dense", "effective_acs", "effective_macs", "updates"].map((k) => (num(l[k]) ? shown(l[k]) : "")),
    num(l.outputs) ? percent(100 * num(l.active) / num(l.outputs)) : "", num(l.parameters) ? shown(l.parameters, 7) : ""];
  const missing = list(energy.not_counted);
  return [
    el("p", { class: "lead" }, `${energy.about || ""} Estimates from counts and published prices of operations, not measurements.`),
    most > 0 ? el("div", { class: "models" }, cards) : null,
    el("div", { class: "card" }, el("h3", null, "Operations per sample"), table("Operations per sample", head, [...layers.map(row), row({ ...energy.total, name: "total" })]),
      missing.length ? el("p", { class: "note warn" }, `Not counted, because their operations are not known: ${missing.map((n) => short(n)).join(", ")}.`) : null)];
}

function bar(name, value, top, text, colour) {
  const inner = el("span", { class: `fill ${colour}` });
  inner.style.setProperty("width", `${top > 0 && Number.isFinite(value) ? Math.max(0.6, (100 * value) / top) : 0}%`);
  return el("div", { class: "bar" }, el("span", { class: "bar-name" }, name), el("span", { class: "rail", "aria-hidden": "true" }, inner), el("span", { class: "bar-value" }, text));
}

// Where today's share of effective products stands against the share at which both networks cost the same.
function evenOf(model) {
  const rate = num(model.rate), even = num(model.break_even);
  if (!Number.isFinite(rate) || !Number.isFinite(even)) return null;
  const text = even < 0 ? `Effective products: ${percent(rate)}. Its updates alone cost more than the quantised network.`
    : `Effective products: ${percent(rate)}; both cost the same at ${percent(even)}.`;
  return el("p", { class: "even" }, text);
}
