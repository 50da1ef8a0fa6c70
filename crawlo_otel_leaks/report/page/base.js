"use strict";
// What every part of the page uses: the report, the texts, elements, numbers with their units.
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const SIZES = [[1024 ** 3, "GiB"], [1024 ** 2, "MiB"], [1024, "KiB"]];
const BYTES = ["rss"];

const read = id => JSON.parse(document.getElementById(id).textContent);
const report = read("report"), choices = read("choices"), texts = read("texts");
const byId = id => document.getElementById(id);
const chosen = choices.lang || navigator.language.slice(0, 2);
let lang = Object.hasOwn(texts, chosen) ? chosen : "en";

const has = key => Object.hasOwn(texts[lang], key);
// A text of the chosen language; what has none (a verdict of a later version, say) is shown as it is.
function t(key, values = {}) {
  const text = has(key) ? texts[lang][key] : String(key);
  return text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}
const plural = (key, n) => t(n === 1 ? key + ".one" : key, {n});
const known = value => value !== null && value !== undefined;

function humane(seconds) {
  if (seconds < 0.9995) return t("ms", {n: Math.round(seconds * 1000)});
  if (seconds < 59.95) return t("s", {n: seconds.toFixed(1)});
  const parts = [];
  let left = Math.round(seconds);
  for (const [size, unit] of UNITS) {
    if (left >= size || parts.length) parts.push(t(unit, {n: Math.floor(left / size)}));
    left %= size;
  }
  return parts.slice(0, 2).join(" ");
}

// A value of a quantity with its unit; signed for changes.
const sizeFor = value => SIZES.find(([size]) => Math.abs(value) >= size) ?? SIZES.at(-1);
function digits(value, places) {
  const fixed = {minimumFractionDigits: places, maximumFractionDigits: places};
  return value.toLocaleString(lang, fixed).replace("-", "−");
}
function amount(quantity, value, signed = false) {
  const sign = signed && value > 0 ? "+" : "";
  if (!BYTES.includes(quantity)) return sign + digits(value, Math.abs(value) >= 10 || Number.isInteger(value) ? 0 : 1);
  const [size, unit] = sizeFor(value);
  return `${sign}${digits(value / size, 1)} ${unit}`;
}

// A change per second, as one per the shortest time in which it is seen.
function rate(quantity, slope) {
  const least = BYTES.includes(quantity) ? 100 * 1024 : 1;
  const [seconds, unit] = UNITS.findLast(([size]) => Math.abs(slope) * size >= least) ?? UNITS[0];
  return t("per." + unit, {n: amount(quantity, slope * seconds, true)});
}

// The reader's local time, as all of them write it.
const two = number => String(number).padStart(2, "0");
const moment = date => isNaN(date) ? "" : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
  [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");

// The only way anything enters the page: strings become text nodes, never markup.
function make(tag, props, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter(child => known(child) && child !== ""));
  return node;
}
const code = text => make("code", {}, String(text));
const place = frame => [code(`${frame.file}:${frame.line}`), ` ${t("in")} `, code(frame.function)];

// Long lines scroll inside their box, with the keyboard too.
const scrollable = (text, ariaLabel) => make("pre", {tabIndex: 0, role: "region", ariaLabel}, text);

// A table in a box that scrolls. A column is [name, class]; a cell is a text, a node, or a list of them.
function table(label, columns, rows, foot = null) {
  const top = columns.map(([name, className = ""]) => make("th", {scope: "col", className}, name));
  const cell = (value, place) => {
    const tag = place || columns[0][1] === "number" ? "td" : "th", props = {className: columns[place][1] ?? ""};
    return make(tag, tag === "th" ? {...props, scope: "row"} : props, ...[value].flat());
  };
  const row = values => make("tr", {}, ...values.map(cell));
  return make("div", {className: "scroll", tabIndex: 0, role: "region", ariaLabel: label},
    make("table", {className: columns.length > 7 ? "dense" : ""}, make("thead", {}, make("tr", {}, ...top)), make("tbody", {}, ...rows.map(row)),
      foot ? make("tfoot", {}, row(foot)) : null));
}

function copyButton(text, what) {
  const button = make("button", {type: "button", className: "small", ariaLabel: t("copy.what", {what})}, t("copy"));
  button.addEventListener("click", () => copy(text, button));
  return button;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // no clipboard for this page: the old way, through a selection
    const field = make("textarea", {value: text});
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.textContent = t("copied");
  setTimeout(() => { button.textContent = t("copy"); }, 1500);
}
