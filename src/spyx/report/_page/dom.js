// Elements, texts and numbers. Every text of a run reaches the page through a text node or an attribute, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

// What the user has chosen (zoom, sample, open tables), by the name of the thing: a live page is drawn again and again.
const chosen = new Map();

function choice(name, otherwise) {
  return chosen.has(name) ? chosen.get(name) : otherwise;
}

// Control characters, reversed directions and halves of characters become their codes; line ends stay where asked.
function visible(text, lines = false) {
  return String(text).replace(UNSEEN, (letter) => {
    if (lines && letter === "\n") return letter;
    return "\\u{" + letter.codePointAt(0).toString(16) + "}";
  });
}

function put(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
    else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : visible(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(visible(child, true)));
  }
  return node;
}

const el = (tag, properties, ...children) => put(document.createElement(tag), properties, children);
const svg = (tag, properties, ...children) => put(document.createElementNS(SVG, tag), properties, children);

// A text of the run: isolated from the direction of what is around it, and folded where it is long.
function told(text, most = 240) {
  const whole = String(text);
  if (whole.length <= most) return el("bdi", { class: "told" }, whole);
  const short = el("bdi", { class: "told" }, whole.slice(0, most) + "\u2026");
  const button = el("button", { type: "button", class: "link", "aria-expanded": "false" }, `all ${whole.length} characters`);
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "less" : `all ${whole.length} characters`;
    short.textContent = open ? visible(whole, true) : visible(whole.slice(0, most), true) + "\u2026";
  });
  return el("span", null, short, " ", button);
}

// One line of a text for a place with little room.
function short(text, most = 40) {
  const whole = visible(text);
  return whole.length <= most ? whole : whole.slice(0, most - 1) + "\u2026";
}

// Numbers that are no numbers arrive as texts.
function num(value) {
  if (typeof value === "number") return value;
  if (value === "Infinity") return Infinity;
  if (value === "-Infinity") return -Infinity;
  return NaN;
}

function shown(value, digits = 4) {
  const n = num(value);
  if (Number.isNaN(n)) return "NaN";
  if (!Number.isFinite(n)) return n > 0 ? "\u221e" : "\u2212\u221e";
  if (n === 0) return "0";
  const size = Math.abs(n);
  const text = size >= 1e6 || size < 1e-3 ? power(n, digits) : grouped(Number(n.toPrecision(digits)));
  return text.replace(/-/g, "\u2212");
}

function power(n, digits) {
  const [mantissa, exponent] = n.toExponential(Math.max(0, digits - 2)).split("e");
  const plain = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
  const raised = String(Number(exponent)).replace(/./g, (d) => (d === "-" ? "\u207b" : "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[Number(d)]));
  return plain === "1" ? "10" + raised : plain + "\u00d710" + raised;
}

function grouped(n) {
  const [whole, part] = String(n).split(".");
  const spaced = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, "\u2009") : whole;
  return part ? spaced + "." + part : spaced;
}

function percent(value, digits = 3) {
  const n = num(value);
  return Number.isFinite(n) ? `${shown(Math.abs(n) >= 100 ? n : Number(n.toPrecision(digits)), 5)} %` : shown(n);
}

function joule(value) {
  const n = num(value);
  if (!Number.isFinite(n)) return shown(n);
  for (const [size, unit] of [[1e12, "J"], [1e9, "mJ"], [1e6, "\u00b5J"], [1e3, "nJ"]]) {
    if (Math.abs(n) >= size) return `${shown(n / size, 3)} ${unit}`;
  }
  return `${shown(n, 3)} pJ`;
}

const list = (value) => (Array.isArray(value) ? value : []);

let saying = 0;
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => { document.getElementById("say").textContent = visible(text); }, 120);
}

// A table that can be scrolled sideways by keyboard; numbers are right-aligned.
function table(caption, head, rows, words = 1) {
  const cell = (tag, value, n, scope) => el(tag, { class: n >= words ? "n" : null, scope }, value);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", null, el("caption", { class: "unseen" }, caption),
      el("thead", null, el("tr", null, head.map((h, n) => cell("th", h, n, "col")))),
      el("tbody", null, rows.map((row) => el("tr", null, row.map((value, n) => cell(n ? "td" : "th", value, n, n ? null : "row")))))));
}

// A part that opens, and whose inside is made when it does.
function folded(name, summary, make) {
  const inside = el("div");
  const node = el("details", { "data-key": name, open: choice(name, false) }, el("summary", null, summary), inside);
  const fill = () => { if (node.open && !inside.firstChild) inside.append(make()); };
  node.addEventListener("toggle", () => { chosen.set(name, node.open); fill(); });
  fill();
  return node;
}

function toggle(name, label, otherwise, change) {
  const button = el("button", { type: "button", class: "tool", "data-key": name, "aria-pressed": String(choice(name, otherwise)) }, label);
  button.addEventListener("click", () => {
    chosen.set(name, !choice(name, otherwise));
    button.setAttribute("aria-pressed", String(choice(name, otherwise)));
    change();
  });
  return button;
}

function copyable(name, text) {
  const code = el("pre", { class: "code", tabindex: "0", "aria-label": name }, el("code", { dir: "ltr" }, text));
  const button = el("button", { type: "button", class: "tool copy" }, "Copy");
  button.addEventListener("click", async () => {
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch { done = false; }
    if (!done) getSelection().selectAllChildren(code);
    button.textContent = done ? "Copied" : "Selected";
    say(done ? `${name} copied` : `${name} selected: copy it with your keyboard`);
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return el("div", { class: "copyable" }, code, button);
}

function tint(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
