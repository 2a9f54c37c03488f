// One sample on its way through the network: input, every layer, the readout, all over the same time axis.

function bytesOf(data) {
  const binary = atob(String(data));
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// columns (bins of time) times units, as a function of both; units are counted from 0 at the bottom.
function readerOf(row) {
  const [columns, units] = list(row.shape), bytes = bytesOf(row.data);
  if (row.kind === "spikes") return (c, u) => (bytes[(u * columns + c) >> 3] >> (7 - ((u * columns + c) & 7))) & 1;
  const low = num(row.low), high = num(row.high);
  return (c, u) => low + (bytes[u * columns + c] / 255) * (high - low);
}

function samplesSection(samples) {
  const items = list(samples.items), names = list(samples.classes);
  const word = (k) => (names[k] === undefined ? String(k) : short(names[k], 30));
  const stage = el("div", { class: "stage" });
  const filter = el("select", { id: "of-class", "data-key": "samples.class" }, el("option", { value: "" }, "all classes"),
    [...new Set(items.map((i) => i.truth).filter((t) => t !== undefined))].sort((a, b) => a - b)
      .map((t) => el("option", { value: t }, `true class ${word(t)}`)));
  const groups = [["right", true], ["wrong", false]].map(([label, right]) => {
    const chips = items.map((item, n) => [item, n]).filter(([item]) => Boolean(item.right) === right).map(([item, n]) => chip(item, n));
    return el("fieldset", { class: `chips ${label}` },
      el("legend", null, right ? "Predicted right" : "Predicted wrong"), chips.length ? chips : el("p", { class: "note" }, "none"));
  });

  function chip(item, n) {
    const input = el("input", { type: "radio", name: "sample", value: n, id: `sample-${n}`, "data-key": `sample-${n}` });
    input.addEventListener("change", () => { chosen.set("sample", n); show(); });
    const says = item.truth === undefined ? [`#${item.index}`]
      : item.right ? [el("bdi", null, word(item.truth))] : [el("bdi", null, word(item.truth)), " \u2192 ", el("bdi", null, word(item.prediction))];
    const label = el("label", { for: `sample-${n}`, title: describe(item) },
      el("span", { class: "mark-of", "aria-hidden": "true" }, item.right ? "\u2713" : "\u2717"), el("span", { class: "says" }, says), el("span", { class: "unseen" }, `, sample ${item.index}`));
    const node = el("span", { class: "chip" }, input, label);
    node.truth = item.truth;
    return node;
  }

  function describe(item) {
    if (item.truth === undefined) return `sample ${item.index}, a label at every step`;
    const margin = Number.isFinite(num(item.margin)) ? `, ahead of the next class by ${shown(item.margin, 3)}` : "";
    return `sample ${item.index}: true class ${word(item.truth)}, predicted ${word(item.prediction)}${margin}`;
  }

  function show() {
    const at = Math.min(choice("sample", 0), items.length - 1), item = items[at];
    const input = groups.flatMap((g) => [...g.querySelectorAll("input")]).find((i) => Number(i.value) === at);
    if (input) input.checked = true;
    stage.replaceChildren(
      el("p", { class: `verdict ${item.right ? "right" : "wrong"}` },
        el("b", null, item.right ? "\u2713 Right" : "\u2717 Wrong"), el("bdi", null, ` \u2013 ${describe(item)}`)),
      rasterOf(item, word));
    redraw();
  }

  filter.addEventListener("change", () => {
    chosen.set("samples.class", filter.value);
    for (const group of groups) for (const node of group.querySelectorAll(".chip")) node.hidden = filter.value !== "" && String(node.truth) !== filter.value;
  });
  if (items.length === 0) return [el("p", null, "No samples.")];
  const most = items.some((i) => i.labels) ? "are predicted right at most of their steps" : "are predicted right";
  const share = samples.count ? `${shown(samples.right, 6)} of ${shown(samples.count, 6)} ${short(samples.part)} samples ${most}.` : "";
  queueMicrotask(() => {
    filter.value = choice("samples.class", "");
    filter.dispatchEvent(new Event("change"));
    show();
  });
  return [
    el("p", { class: "lead" }, `${share} ${samples.note || ""}`),
    el("div", { class: "card samples" },
      el("div", { class: "picker" }, filter.options.length > 2 && el("label", { class: "field", for: "of-class" }, "Show ", filter), groups),
      stage),
  ];
}

function rasterOf(item, word) {
  const rows = list(item.rows), steps = Math.max(1, ...rows.map((r) => r.steps || 1));
  const all = item.labels ? [...rows, { kind: "labels", name: "labels", steps, labels: item.labels, predictions: list(item.predictions) }] : rows;
  const state = { view: [0, steps], at: null };
  const stack = el("div", {
    class: "stack", tabindex: "0", role: "group", "aria-roledescription": "raster", "data-key": "raster",
    "aria-label": `Activity of sample ${item.index} over ${steps} time steps: ` + rows.map(about).join("; "), "aria-describedby": "raster-keys",
  });
  const tip = el("div", { class: "tip", "aria-hidden": "true" }), line = el("div", { class: "timeline", "aria-hidden": "true" });
  const reset = el("button", { type: "button", class: "tool" }, "Reset zoom");
  reset.hidden = true;
  reset.addEventListener("click", () => { zoom(null); stack.focus(); });
  const parts = all.map((row) => partOf(row, item, word));
  const axis = el("canvas", { class: "time", "aria-hidden": "true" });
  stack.append(...parts.map((p) => p.node), axis, line, tip);
  tip.hidden = line.hidden = true;
  const left = 44, right = 10;
  const width = () => stack.clientWidth - left - right;
  const toX = (t) => left + ((t - state.view[0]) / (state.view[1] - state.view[0])) * width();
  const toT = (x) => state.view[0] + ((x - left) / width()) * (state.view[1] - state.view[0]);

  function draw() {
    if (!stack.isConnected) { DRAWN.delete(draw); return; }
    if (width() < 20) return;
    reset.hidden = state.view[0] === 0 && state.view[1] === steps;
    for (const part of parts) part.draw({ left, right, toX, view: state.view });
    const paint = canvas(axis, stack.clientWidth, 38);
    paint.fillStyle = tint("--muted");
    paint.strokeStyle = tint("--axis");
    paint.textAlign = "center";
    for (const t of ticksOf(state.view[0], state.view[1] - 1, Math.max(2, width() / 80)).filter(Number.isInteger)) {
      paint.fillText(shown(t, 6), toX(t + 0.5), 17);
      paint.fillRect(toX(t + 0.5), 0, 1, 4);
    }
    paint.fillText("time step", left + width() / 2, 33);
    hover();
  }

  function hover(pointed) {
    line.hidden = tip.hidden = state.at === null;
    if (state.at === null) return;
    const x = toX(state.at + 0.5);
    line.style.setProperty("left", `${x}px`);
    tip.replaceChildren(el("div", { class: "at" }, `time step ${state.at}`),
      ...parts.map((p) => el("div", null, el("span", null, short(p.row.name, 22)), el("b", null, p.at(state.at, pointed && pointed.part === p ? pointed.y : null)))));
    tip.style.setProperty("left", `${x + tip.offsetWidth + 16 > stack.clientWidth ? x - tip.offsetWidth - 10 : x + 12}px`);
    tip.style.setProperty("top", `${Math.max(0, Math.min(stack.clientHeight - tip.offsetHeight - 40, pointed ? pointed.top : 20))}px`);
  }

  function zoom(range) {
    state.view = range && range[1] - range[0] >= 2 ? [Math.max(0, Math.floor(range[0])), Math.min(steps, Math.ceil(range[1]))] : [0, steps];
    draw();
    say(`time steps ${state.view[0]} to ${state.view[1] - 1}`);
  }

  let pressed = null;
  const atX = (event) => event.clientX - stack.getBoundingClientRect().left;
  stack.addEventListener("pointermove", (event) => {
    const t = Math.floor(toT(atX(event)));
    if (t < 0 || t >= steps) return;
    state.at = t;
    const part = parts.find((p) => { const box = p.canvas.getBoundingClientRect(); return event.clientY >= box.top && event.clientY <= box.bottom; });
    hover({ part, y: part ? event.clientY - part.canvas.getBoundingClientRect().top : 0, top: event.clientY - stack.getBoundingClientRect().top + 12 });
  });
  stack.addEventListener("pointerleave", () => { state.at = null; hover(); });
  stack.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse" && event.button === 0) pressed = atX(event); });
  stack.addEventListener("pointerup", (event) => {
    if (pressed !== null && Math.abs(atX(event) - pressed) > 8) zoom([toT(Math.min(pressed, atX(event))), toT(Math.max(pressed, atX(event)))]);
    pressed = null;
  });
  stack.addEventListener("dblclick", () => zoom(null));
  stack.addEventListener("blur", () => { state.at = null; hover(); });
  stack.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = event.shiftKey ? 10 : 1, [from, to] = state.view;
    const go = (t) => {
      state.at = Math.max(from, Math.min(to - 1, t));
      hover();
      say(`time step ${state.at}: ` + parts.map((p) => `${short(p.row.name, 22)} ${p.at(state.at, null)}`).join(", "));
      event.preventDefault();
    };
    if (event.key === "ArrowRight") go(state.at === null ? from : state.at + by);
    else if (event.key === "ArrowLeft") go(state.at === null ? to - 1 : state.at - by);
    else if (event.key === "Home") go(from);
    else if (event.key === "End") go(to - 1);
    else if (event.key === "+" || event.key === "=" || event.key === "-") {
      const middle = state.at ?? (from + to) / 2, half = ((to - from) / 2) * (event.key === "-" ? 2 : 0.5);
      zoom([middle - half, middle + half]);
      event.preventDefault();
    } else if (event.key === "0" || event.key === "Escape") { state.at = null; zoom(null); }
  });
  DRAWN.add(draw);
  const facts = rows.map((r) => [short(r.name, 60), shown(r.units, 6), r.kind === "spikes" ? shown(r.count, 7) : "graded values", r.kind === "spikes" ? percent(100 * num(r.share)) : "\u2013"]);
  return el("div", null, el("div", { class: "tools raster-tools" }, reset), stack,
    folded("raster.table", "Show as a table", () => table(`Sample ${item.index}, layer by layer`, ["layer", "units", "spikes", "spikes per unit and step"], facts)));
}

function about(row) {
  const units = `${shown(row.units, 6)} ${row.name === "input" ? "channels" : "units"}`;
  if (row.kind === "spikes") return `${short(row.name, 60)}, ${units}, ${shown(row.count, 7)} spikes, ${percent(100 * num(row.share))} of units \u00d7 steps`;
  if (row.kind === "lines") return `${short(row.name, 60)}, ${units}: ${row.classes.length < row.units ? `output of the ${row.classes.length} strongest` : "output"} over time`;
  return `${short(row.name, 60)}, ${units}, values ${shown(row.low, 3)} to ${shown(row.high, 3)}`;
}

// One layer: a canvas, its heading, and what it says at a time step.
function partOf(row, item, word) {
  const canvasNode = el("canvas", { "aria-hidden": "true" });
  const thinned = [row.stride > 1 && `1 unit in ${row.stride}`, row.bin > 1 && `${row.bin} steps per column`].filter(Boolean).join(", ");
  const title = row.kind === "labels" ? "labels (upper) and predictions (lower), one colour per class"
    : about(row) + (thinned ? ` (shown: ${thinned})` : "");
  const keys = row.kind === "lines" ? lineKeys(row, item, word) : row.kind === "labels" ? labelKeys(row, word) : [];
  const legend = keys.length ? el("div", { class: "legend" }, keys) : null;
  const node = el("div", { class: "part" }, el("div", { class: "part-title" }, title), canvasNode, legend);
  const [columns, shownUnits] = list(row.shape);
  const read = row.data !== undefined ? readerOf(row) : null;
  const height = row.kind === "lines" ? 150 : row.kind === "labels" ? 36 : Math.max(56, Math.min(190, shownUnits * 3));
  const lines = row.kind === "lines" ? list(row.lines).map((l) => list(l).map(num)) : [];

  function at(t, y) {
    const c = Math.floor(t / (row.bin || 1));
    if (row.kind === "labels") {
      const label = row.labels[t];
      return `${label < 0 ? "no label" : word(label)}, predicted ${word(row.predictions[t])}`;
    }
    if (row.kind === "lines") {
      if (!lines.length || c >= lines[0].length) return "ended";
      let best = 0;
      lines.forEach((l, k) => { if (l[c] > lines[best][c]) best = k; });
      return `class ${word(row.classes[best])}: ${shown(lines[best][c], 3)}`;
    }
    if (c >= columns) return "ended";
    if (y !== null) {
      const unit = Math.max(0, Math.min(shownUnits - 1, Math.floor((1 - y / height) * shownUnits)));
      const value = read(c, unit);
      return `unit ${unit * row.stride}: ${row.kind === "spikes" ? (value ? "spike" : "no spike") : shown(value, 3)}`;
    }
    let sum = 0;
    for (let u = 0; u < shownUnits; u++) sum += read(c, u);
    return row.kind === "spikes" ? `${sum} ${sum === 1 ? "spike" : "spikes"}` : `mean ${shown(sum / shownUnits, 3)}`;
  }

  function draw({ left, right, toX, view }) {
    const width = node.clientWidth, paint = canvas(canvasNode, width, height + 6);
    paint.fillStyle = tint("--plot");
    paint.fillRect(left, 3, width - left - right, height);
    paint.save();
    paint.beginPath();
    paint.rect(left - 1, 0, width - left - right + 2, height + 6);
    paint.clip();
    if (row.kind === "lines") drawLines(paint, row, lines, item, toX, height, view);
    else if (row.kind === "labels") drawLabels(paint, row, toX, height, view);
    else drawCells(paint, row, read, toX, height, view);
    paint.restore();
    paint.fillStyle = tint("--muted");
    paint.textAlign = "right";
    if (row.kind === "lines") {
      const [low, high] = limitsOf(lines);
      paint.fillText(shown(high, 3), left - 6, 12);
      paint.fillText(shown(low, 3), left - 6, height + 2);
    } else if (row.kind !== "labels") {
      paint.fillText(shown(row.units - 1, 6), left - 6, 13);
      if (row.units > 1) paint.fillText("0", left - 6, height + 2);
    }
    paint.save();
    paint.translate(11, 3 + height / 2);
    paint.rotate(-Math.PI / 2);
    paint.textAlign = "center";
    if (row.kind !== "labels") paint.fillText(row.kind === "lines" ? "output" : row.name === "input" ? "channel" : "unit", 0, 0);
    paint.restore();
  }
  return { node, canvas: canvasNode, row, at, draw };
}

function canvas(node, width, height) {
  const ratio = window.devicePixelRatio || 1;
  node.width = Math.round(width * ratio);
  node.height = Math.round(height * ratio);
  node.style.setProperty("width", `${width}px`);
  node.style.setProperty("height", `${height}px`);
  const paint = node.getContext("2d");
  paint.scale(ratio, ratio);
  paint.font = "11px system-ui, sans-serif";
  return paint;
}

function drawCells(paint, row, read, toX, height, view) {
  const [columns, units] = row.shape, bin = row.bin || 1;
  const cell = height / units, ink = tint("--spike"), low = num(row.low), high = num(row.high);
  for (let c = Math.floor(view[0] / bin); c < Math.min(columns, Math.ceil(view[1] / bin)); c++) {
    const spikes = row.kind === "spikes", end = Math.min(toX((c + 1) * bin), toX(row.steps));
    const x = spikes ? toX(c * bin) : Math.round(toX(c * bin)), wide = (spikes ? end : Math.round(end)) - x; // no seams
    const mark = Math.min(wide, 12); // a spike is a tick in the middle of its step, not a bar as long as the step
    for (let u = 0; u < units; u++) {
      const value = read(c, u);
      if (row.kind === "spikes") {
        if (!value) continue;
        paint.globalAlpha = 1;
      } else paint.globalAlpha = 0.06 + 0.94 * (high > low ? (value - low) / (high - low) : 0.5);
      paint.fillStyle = ink;
      if (row.kind === "spikes") {
        const tall = Math.max(2, Math.min(12, cell - (cell > 4 ? 1 : 0)));
        paint.fillRect(x + (wide - mark) / 2, 3 + height - (u + 0.5) * cell - tall / 2, Math.max(1.2, mark), tall);
      } else {
        const top = Math.round(height - (u + 1) * cell);
        paint.fillRect(x, 3 + top, wide, Math.round(height - u * cell) - top);
      }
    }
  }
  paint.globalAlpha = 1;
}

function limitsOf(lines) {
  const finite = lines.flat().filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const low = finite.reduce((a, b) => Math.min(a, b)), high = finite.reduce((a, b) => Math.max(a, b));
  return low === high ? [low - 1, high + 1] : [low, high];
}

function styleOf(unit, item) {
  if (unit === item.truth) return { colour: "--good", dash: [], width: 2.4 };
  if (unit === item.prediction) return { colour: "--bad", dash: [6, 3], width: 2.4 };
  return { colour: "--faint", dash: [], width: 1.1 };
}

function drawLines(paint, row, lines, item, toX, height, view) {
  const [low, high] = limitsOf(lines), bin = row.bin || 1;
  const py = (v) => 7 + (1 - (v - low) / (high - low)) * (height - 8);
  if (low < 0 && high > 0) {
    paint.fillStyle = tint("--axis");
    paint.fillRect(0, py(0), 1e5, 1);
  }
  const order = lines.map((l, k) => k).sort((a, b) => styleOf(row.classes[a], item).width - styleOf(row.classes[b], item).width);
  for (const k of order) {
    const style = styleOf(row.classes[k], item);
    paint.strokeStyle = tint(style.colour);
    paint.lineWidth = style.width;
    paint.setLineDash(style.dash);
    paint.beginPath();
    let down = false;
    lines[k].forEach((v, c) => {
      if (!Number.isFinite(v)) { down = false; return; }
      const x = toX((c + 0.5) * bin);
      if (down) paint.lineTo(x, py(v)); else paint.moveTo(x, py(v));
      down = true;
    });
    paint.stroke();
    if (lines[k].length === 1 && down) paint.strokeRect(toX(0.5) - 1.5, py(lines[k][0]) - 1.5, 3, 3);
  }
  paint.setLineDash([]);
}

function lineKeys(row, item, word) {
  const key = (name, text) => el("span", { class: "key" }, el("span", { class: `swatch ${name}`, "aria-hidden": "true" }), el("bdi", null, text));
  if (item.truth === undefined) return [key("faint", "one line per class")];
  const same = item.truth === item.prediction;
  const found = [key("good", `class ${word(item.truth)}, the true class${same ? " and the prediction" : ""}`)];
  if (!same) found.push(key("bad", `class ${word(item.prediction)}, the prediction`));
  if (row.classes.length > found.length) found.push(key("faint", "other classes"));
  return found;
}

// Colours come again after the eighth class; what a step has is in the text beside the pointer.
function labelKeys(row, word) {
  const there = [...new Set([...list(row.labels), ...list(row.predictions)])].filter((k) => k >= 0).sort((a, b) => a - b);
  return there.slice(0, 16).map((k) => el("span", { class: "key" }, el("span", { class: `square fill c${k % COLOURS}`, "aria-hidden": "true" }), el("bdi", null, word(k))));
}

function drawLabels(paint, row, toX, height, view) {
  [row.labels, list(row.predictions)].forEach((values, lane) => {
    for (let t = view[0]; t < Math.min(view[1], values.length); t++) {
      if (values[t] < 0) continue;
      paint.fillStyle = tint(`--c${values[t] % COLOURS}`);
      const x = Math.round(toX(t));
      paint.fillRect(x, 4 + lane * (height / 2), Math.max(1, Math.round(toX(t + 1)) - x), height / 2 - 2);
    }
  });
}
