// Line charts: hover, zoom, a switch for the axis, a legend that hides lines, and a table that says the same.

const DASHES = ["", "7 4", "2 3", "9 3 2 3", "1 4"];
const COLOURS = 8;
const DRAWN = new Set(); // functions that draw a chart again when it has another size or theme
const GROUPS = new Map(); // charts over the same axis share hover and zoom

function groupOf(name) {
  if (!GROUPS.has(name)) GROUPS.set(name, { at: null, view: null, from: null, members: new Set() });
  return GROUPS.get(name);
}

function ticksOf(low, high, most) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, most);
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((s) => s >= rough) || 10 * unit;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k <= high / step + 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function logTicks(low, high, most) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const every = Math.max(1, Math.ceil((last - first) / most));
  const steps = last - first <= 2 ? [1, 2, 5] : [1];
  const found = [];
  for (let k = first; k <= last; k += every) for (const s of steps) found.push(s * 10 ** k);
  const inside = found.filter((v) => v >= low * 0.999 && v <= high * 1.001);
  return inside.length > 1 ? inside : ticksOf(low, high, most);
}

// spec: {id, group, title, unit, along, xs, series: [{name, values, colour, low, high}], marks: [{name, value}], log}
function lineChart(spec) {
  const series = spec.series.map((s, n) => ({
    ...s, values: list(s.values).map(num), low: s.low && list(s.low).map(num), high: s.high && list(s.high).map(num),
    colour: (s.colour ?? n) % COLOURS, dash: s.dash ?? DASHES[Math.floor((s.colour ?? n) / COLOURS) % DASHES.length],
  }));
  const marks = list(spec.marks).map((m) => ({ ...m, role: m.role === "chance" ? "chance" : "", value: num(m.value) })).filter((m) => Number.isFinite(m.value));
  const xs = spec.xs, group = groupOf(spec.group), hidden = choice(`${spec.id}.hidden`, new Set());
  chosen.set(`${spec.id}.hidden`, hidden);
  const everything = series.flatMap((s) => s.values).filter(Number.isFinite);
  const canLog = spec.log !== null && everything.length > 0 && everything.every((v) => v >= 0) && everything.some((v) => v > 0);
  const bad = series.reduce((sum, s) => sum + s.values.filter((v) => !Number.isFinite(v)).length, 0);
  const zeros = series.map((s) => [s.name, s.values.filter((v) => v === 0).length]).filter(([, n]) => n > 0);
  const isLog = () => canLog && choice(`${spec.id}.log`, Boolean(spec.log));

  const plot = el("div", {
    class: "plot", tabindex: "0", role: "group", "aria-roledescription": "line chart", "data-key": `${spec.id}.plot`,
    "aria-label": summaryOf(spec, series), "aria-describedby": "chart-keys",
  });
  const tip = el("div", { class: "tip", "aria-hidden": "true" });
  tip.hidden = true;
  const reset = el("button", { type: "button", class: "tool", "data-key": `${spec.id}.reset` }, "Reset zoom");
  reset.addEventListener("click", () => { zoom(null); plot.focus(); });
  const tools = el("div", { class: "tools" },
    reset, canLog && toggle(`${spec.id}.log`, "Log axis", Boolean(spec.log), () => member.draw()));
  const legend = el("div", { class: "legend", role: "group", "aria-label": `Lines of ${spec.title}` },
    series.map((s) => legendButton(s, hidden, () => member.draw())),
    marks.map((m) => el("span", { class: "key" }, near(m.value, everything) ? sample(`mark ${m.role || ""}`, "") : null,
      `${short(m.name)}: ${shown(m.value)}${near(m.value, everything) ? "" : " (far off the axis)"}`)));
  const none = el("p", { class: "note" }, `A log axis has no 0: ${zeros.map(([name, n]) => `${short(name)} is exactly 0 at ${n} ${n === 1 ? "epoch" : "epochs"}`).join(", ")}.`);
  const note = bad > 0 && everything.length > 0 && !spec.quiet
    ? el("p", { class: "note warn" }, `${bad} ${bad === 1 ? "value is" : "values are"} NaN or infinite and not drawn.`) : null;
  const figure = el("figure", { class: "chart card" },
    el("figcaption", null, el("div", null, el("h3", null, short(spec.title, 80)), el("p", { class: "unit" }, short(spec.unit, 120))), tools),
    plot, legend, note, none,
    folded(`${spec.id}.table`, "Show as a table", () => chartTable(spec, series)));

  const member = { draw, hover };
  group.members.add(member);
  DRAWN.add(draw);
  let scale = null;

  function view() {
    const whole = xs.length ? [xs[0], xs[xs.length - 1]] : [0, 1];
    const v = group.view || whole;
    return v[1] > v[0] ? v : [v[0] - 0.5, v[0] + 0.5];
  }

  function draw() {
    const width = plot.clientWidth, height = 230;
    if (!width || !plot.isConnected) return;
    reset.hidden = !group.view;
    none.hidden = !isLog() || zeros.length === 0;
    const [x0, x1] = view(), log = isLog();
    const seen = series.filter((s) => !hidden.has(s.name));
    const inside = [];
    for (const s of seen) for (const values of [s.values, s.low || [], s.high || []]) values.forEach((v, i) => {
      if (Number.isFinite(v) && xs[i] >= x0 && xs[i] <= x1 && (!log || v > 0)) inside.push(v);
    });
    const room = marks.filter((m) => near(m.value, inside));
    for (const m of room) if (!log || m.value > 0) inside.push(m.value);
    const [y0, y1] = rangeOf(inside, log, spec.most);
    const yTicks = log ? logTicks(y0, y1, 5) : ticksOf(y0, y1, 5);
    const labels = yTicks.map((v) => shown(v, 3));
    const left = 14 + 7.2 * Math.max(2, ...labels.map((l) => l.length)), right = 14, top = 10, bottom = 40;
    const lift = (v) => (log ? Math.log10(v) : v);
    const px = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - right);
    const py = (y) => height - bottom - ((lift(y) - lift(y0)) / (lift(y1) - lift(y0) || 1)) * (height - top - bottom);
    scale = { px, py, left, right, top, bottom, width, height, x0, x1, log, seen };
    const xTicks = ticksOf(x0, x1, Math.max(2, width / 90)).filter(Number.isInteger);
    if (xTicks.length && Number.isInteger(x0) && px(xTicks[0]) - px(x0) > 34) xTicks.unshift(x0);
    const clip = `clip-${spec.id.replace(/[^\w-]/g, "")}`;
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      svg("clipPath", { id: clip }, svg("rect", { x: left - 6, y: top - 6, width: width - left - right + 12, height: height - top - bottom + 12 })),
      yTicks.map((v, n) => [
        svg("line", { class: "grid", x1: left, x2: width - right, y1: py(v), y2: py(v) }),
        svg("text", { class: "tick", x: left - 8, y: py(v), dy: "0.32em", "text-anchor": "end" }, labels[n])]),
      xTicks.map((v) => [
        svg("line", { class: "axis", x1: px(v), x2: px(v), y1: height - bottom, y2: height - bottom + 4 }),
        svg("text", { class: "tick", x: px(v), y: height - bottom + 17, "text-anchor": "middle" }, shown(v, 6))]),
      svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
      svg("text", { class: "tick", x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, spec.along));
    const lines = svg("g", { "clip-path": `url(#${clip})` });
    marks.forEach((m) => {
      if (log && !(m.value > 0)) return;
      lines.append(svg("line", { class: `mark ${m.role || ""}`, x1: left, x2: width - right, y1: py(m.value), y2: py(m.value) }));
    });
    for (const s of seen) lines.append(...strokes(s, xs, px, py, log));
    picture.append(lines, svg("g", { class: "cursor" }));
    if (!inside.length) picture.append(svg("text", { class: "tick", x: (left + width) / 2, y: height / 2, "text-anchor": "middle" },
      xs.length ? "nothing to draw: no finite values" : "no epoch yet"));
    plot.replaceChildren(picture, tip);
    hover();
  }

  function hover() {
    const cursor = plot.querySelector(".cursor");
    if (!cursor || !scale) return;
    cursor.replaceChildren();
    const at = group.at;
    tip.hidden = true;
    if (at === null || at >= xs.length || xs[at] < scale.x0 || xs[at] > scale.x1) return;
    const x = scale.px(xs[at]);
    cursor.append(svg("line", { class: "crosshair", x1: x, x2: x, y1: scale.top, y2: scale.height - scale.bottom }));
    for (const s of scale.seen) {
      const v = s.values[at];
      if (Number.isFinite(v) && (!scale.log || v > 0)) cursor.append(svg("circle", { class: `dot c${s.colour}`, cx: x, cy: scale.py(v), r: 3.5 }));
    }
    if (group.from !== member) return;
    tip.replaceChildren(el("div", { class: "at" }, `${spec.along} ${shown(xs[at], 6)}`),
      ...scale.seen.map((s) => el("div", null, sample(`c${s.colour}`, s.dash), el("span", null, short(s.name, 24)), el("b", null, valueAt(s, at)))));
    tip.hidden = false;
    const room = tip.offsetWidth + 14;
    tip.style.setProperty("left", `${Math.max(0, x + room > scale.width ? x - room : x + 14)}px`);
  }

  function nearest(event) {
    const x = event.clientX - plot.getBoundingClientRect().left;
    const value = scale.x0 + ((x - scale.left) / (scale.width - scale.left - scale.right)) * (scale.x1 - scale.x0);
    let best = 0;
    xs.forEach((v, i) => { if (Math.abs(v - value) < Math.abs(xs[best] - value)) best = i; });
    return best;
  }

  function move(at, spoken) {
    group.at = at;
    group.from = at === null ? null : member;
    for (const other of group.members) other.hover();
    if (spoken && at !== null) say(`${spec.along} ${shown(xs[at])}: ` + scale.seen.map((s) => `${short(s.name)} ${valueAt(s, at)}`).join(", "));
  }

  function zoom(range) {
    group.view = range && range[1] - range[0] >= 1 ? range : null;
    for (const other of group.members) other.draw();
    say(group.view ? `${spec.along} ${shown(group.view[0], 6)} to ${shown(group.view[1], 6)}` : `all of ${spec.along}`);
  }

  let pressed = null;
  plot.addEventListener("pointermove", (event) => {
    if (!scale || !xs.length) return;
    move(nearest(event), false);
    if (pressed !== null) selection(pressed, event.clientX - plot.getBoundingClientRect().left);
  });
  plot.addEventListener("pointerleave", () => { if (pressed === null) move(null, false); });
  plot.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button !== 0 || !scale) return;
    pressed = event.clientX - plot.getBoundingClientRect().left;
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointerup", (event) => {
    if (pressed === null) return;
    const end = event.clientX - plot.getBoundingClientRect().left, from = pressed;
    pressed = null;
    selection(0, 0);
    if (Math.abs(end - from) > 6) {
      const at = (p) => scale.x0 + ((p - scale.left) / (scale.width - scale.left - scale.right)) * (scale.x1 - scale.x0);
      const ends = [at(Math.min(from, end)), at(Math.max(from, end))];
      zoom([Math.max(scale.x0, ends[0]), Math.min(scale.x1, ends[1])]);
    }
  });
  plot.addEventListener("dblclick", () => zoom(null));
  plot.addEventListener("keydown", (event) => {
    if (!xs.length || !scale || event.ctrlKey || event.metaKey || event.altKey) return;
    const inView = xs.map((v, i) => i).filter((i) => xs[i] >= scale.x0 && xs[i] <= scale.x1);
    const first = inView[0] ?? 0, last = inView[inView.length - 1] ?? xs.length - 1;
    const by = event.shiftKey ? 10 : 1, at = group.at === null ? null : group.at;
    const go = (to) => { move(Math.max(first, Math.min(last, to)), true); event.preventDefault(); };
    if (event.key === "ArrowRight") go(at === null ? first : at + by);
    else if (event.key === "ArrowLeft") go(at === null ? last : at - by);
    else if (event.key === "Home") go(first);
    else if (event.key === "End") go(last);
    else if (event.key === "+" || event.key === "=" || event.key === "-") {
      const middle = at === null ? (scale.x0 + scale.x1) / 2 : xs[at];
      const half = ((scale.x1 - scale.x0) / 2) * (event.key === "-" ? 2 : 0.5);
      const ends = [Math.max(xs[0], middle - half), Math.min(xs[xs.length - 1], middle + half)];
      zoom(ends[0] <= xs[0] && ends[1] >= xs[xs.length - 1] ? null : ends);
      event.preventDefault();
    } else if (event.key === "0" || event.key === "Escape") {
      if (group.view) zoom(null);
      move(null, false);
    }
  });
  plot.addEventListener("blur", () => { if (group.from === member) move(null, false); });

  function selection(from, to) {
    plot.querySelector(".selection")?.remove();
    if (Math.abs(to - from) < 3) return;
    plot.querySelector("svg").append(svg("rect", {
      class: "selection", x: Math.min(from, to), width: Math.abs(to - from), y: scale.top, height: scale.height - scale.top - scale.bottom,
    }));
  }
  return figure;
}

// A line across is worth room where it is not far from what is drawn.
function near(value, values) {
  if (!values.length) return false;
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const span = Math.max(high - low, Math.abs(high) * 0.05);
  return value >= low - 1.5 * span && value <= high + 1.5 * span;
}

function rangeOf(values, log, most) {
  if (!values.length) return log ? [0.1, 1] : [0, 1];
  let low = Infinity, high = -Infinity;
  for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
  if (log) return low === high ? [low / 2, high * 2] : [low * (low / high) ** 0.05, high * (high / low) ** 0.05];
  if (low === high) return low === 0 ? [0, 1] : [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1];
  const room = (high - low) * 0.06;
  return [low >= 0 && low - room < 0 ? 0 : low - room, Math.min(most ?? Infinity, high + room)];
}

// A line with gaps where there are no numbers; a point that stands alone is a dot, and a band shows the spread.
function strokes(s, xs, px, py, log) {
  const found = [], fine = (v) => Number.isFinite(v) && (!log || v > 0);
  if (s.low && s.high) {
    const rows = xs.map((x, i) => [x, s.low[i], s.high[i]]).filter((r) => fine(r[1]) && fine(r[2]));
    const there = rows.map((r) => `${px(r[0]).toFixed(1)},${py(r[2]).toFixed(1)}`);
    const back = rows.reverse().map((r) => `${px(r[0]).toFixed(1)},${py(r[1]).toFixed(1)}`);
    if (there.length > 1) found.push(svg("polygon", { class: `band c${s.colour}`, points: [...there, ...back].join(" ") }));
  }
  let path = "", run = 0;
  const close = (i) => {
    if (run === 1) found.push(svg("circle", { class: `dot c${s.colour}`, cx: px(xs[i]), cy: py(s.values[i]), r: 3.5 }));
    run = 0;
  };
  s.values.forEach((v, i) => {
    if (!fine(v)) { close(i - 1); return; }
    path += `${run ? "L" : "M"}${px(xs[i]).toFixed(1)} ${py(v).toFixed(1)}`;
    run += 1;
  });
  close(s.values.length - 1);
  found.unshift(svg("path", { class: `line c${s.colour}`, d: path || "M0 0", "stroke-dasharray": s.dash || null }));
  return found;
}

function sample(kind, dash) {
  return svg("svg", { class: "sample", width: 22, height: 8, "aria-hidden": "true" },
    svg("line", { class: kind.startsWith("mark") ? kind : `line ${kind}`, x1: 0, x2: 22, y1: 4, y2: 4, "stroke-dasharray": dash || null }));
}

function legendButton(s, hidden, change) {
  const button = el("button", { type: "button", class: "key", "aria-pressed": String(!hidden.has(s.name)) },
    sample(`c${s.colour}`, s.dash), el("bdi", null, short(s.name, 36)));
  button.addEventListener("click", () => {
    if (hidden.has(s.name)) hidden.delete(s.name); else hidden.add(s.name);
    button.setAttribute("aria-pressed", String(!hidden.has(s.name)));
    change();
  });
  return button;
}

function valueAt(s, at) {
  const spread = s.low && s.high && s.low[at] !== s.high[at] ? ` (${shown(s.low[at])} to ${shown(s.high[at])})` : "";
  return shown(s.values[at]) + spread;
}

function summaryOf(spec, series) {
  if (!spec.xs.length) return `${spec.title}: no epoch yet`;
  const parts = series.slice(0, 8).map((s) => {
    const finite = s.values.map((v, i) => [v, i]).filter(([v]) => Number.isFinite(v));
    if (!finite.length) return `${short(s.name)}: no finite values`;
    const [first, last] = [finite[0], finite[finite.length - 1]];
    return `${short(s.name)} from ${shown(first[0])} at ${spec.along} ${spec.xs[first[1]]} to ${shown(last[0])} at ${spec.along} ${spec.xs[last[1]]}`;
  });
  return `${short(spec.title)}, ${short(spec.unit)}: ${parts.join("; ")}`;
}

function chartTable(spec, series) {
  const every = Math.max(1, Math.ceil(spec.xs.length / 200));
  const rows = spec.xs.map((x, i) => i).filter((i) => i % every === 0 || i === spec.xs.length - 1);
  const node = table(`${short(spec.title)} as a table`, [spec.along, ...series.map((s) => short(s.name))],
    rows.map((i) => [shown(spec.xs[i], 6), ...series.map((s) => valueAt(s, i))]));
  return every > 1 ? el("div", null, el("p", { class: "note" }, `Every ${every}th row.`), node) : node;
}

new ResizeObserver(() => DRAWN.forEach((draw) => draw())).observe(document.documentElement);
