// The process over time: one small chart a quantity, drawn from the series, with marks where spider runs begin and end.
const HEIGHT = 190, TOP = 22, BOTTOM = 38, RIGHT = 10, LETTER = 7;
const QUANTITIES = ["rss", "objects", "fds", "unattributed", "sockets", "threads", "tasks", "db_connections", "redis_connections"];
const series = report.process.series ?? [];
const runs = report.runs ?? [];
const earlier = report.runs_left_out ?? 0;
const changes = report.process.changes ?? {};

// When a run began and ended, on the clock of the series: runs tell the time of day.
const offset = series.length ? series.at(-1).at - series.at(-1).wall : 0;
const begun = run => run.started + offset;
const ended = run => known(run.duration_s) ? begun(run) + run.duration_s : null;

// The page names no address: the namespace is that of an element the template has.
function shape(tag, props, ...children) {
  const node = document.createElementNS(byId("canvas").namespaceURI, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// The next number of 1, 2, 5, 10, 20 ... that cuts `span` into at most `parts`.
function step(span, parts) {
  const power = 10 ** Math.floor(Math.log10(span / parts));
  return [1, 2, 5, 10].map(one => one * power).find(one => span / one <= parts) ?? 10 * power;
}

function ticks(low, high, by) {
  const found = [];
  for (let n = Math.ceil(low / by - 1e-9); n * by <= high + by * 1e-9; n++) found.push(n * by + 0);  // never -0
  return found;
}

// What stands at a tick; large numbers in short.
function label(value, by) {
  if (Math.abs(value) >= 1e6) return value.toLocaleString(lang, {notation: "compact", maximumSignificantDigits: 4});
  return digits(value, Math.max(0, -Math.floor(Math.log10(by) + 1e-9)));
}
const breadth = text => [...text].reduce((sum, letter) => sum + (letter > "\u2e80" ? 12 : LETTER), 0);

// From zero where that leaves the changes visible; never so close that noise looks like growth.
function range(values, whole) {
  const low = Math.min(...values), high = Math.max(...values);
  const span = Math.max(high - low, high * 0.05, whole ? 4 : 0.1);
  const bottom = low - span * 0.1 < span || (whole && high <= 20) ? 0 : low - span * 0.1, top = high + span * 0.1;
  const by = whole ? Math.max(1, step(top - bottom, 4)) : step(top - bottom, 4);
  return {low: Math.floor(bottom / by) * by, high: Math.ceil(top / by) * by, by};
}

// The stretch of time shown: all snapshots, and the runs beside them.
function stretch() {
  const times = [...series.map(point => point.at), ...runs.flatMap(run => [begun(run), ended(run)])].filter(known);
  const start = Math.min(...times), end = Math.max(...times, start + 1);
  const [size, unit] = UNITS.find(([one]) => end - start >= 2 * one) ?? UNITS.at(-1);
  return {start, end, size, unit};
}

function axes(frame, {low, high, by}, time, unit) {
  const nodes = ticks(low, high, by).flatMap(value => [
    shape("line", {class: "grid", x1: frame.left, x2: frame.right, y1: frame.y(value), y2: frame.y(value)}),
    shape("text", {x: frame.left - 6, y: frame.y(value) + 4, "text-anchor": "end"}, label(value, by))]);
  const span = (time.end - time.start) / time.size;
  const whole = step(span, Math.max(2, Math.floor((frame.right - frame.left) / 60)));
  for (const value of ticks(0, span, whole)) {
    const x = frame.x(time.start + value * time.size), y = frame.bottom;
    nodes.push(shape("line", {class: "axis", x1: x, x2: x, y1: y, y2: y + 4}),
      shape("text", {x, y: y + 16, "text-anchor": "middle"}, label(value, whole)));
  }
  nodes.push(shape("line", {class: "axis", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom}),
    shape("text", {x: frame.right, y: HEIGHT - 6, "text-anchor": "end"}, t("axis." + time.unit)),
    shape("text", {x: 0, y: 12}, unit));
  return nodes;
}

// Where runs are too many to be told apart, some go without a number or a mark.
function marks(frame, time) {
  const nodes = [];
  let marked = -Infinity, numbered = -Infinity;
  for (const [place, run] of runs.entries()) {
    const from = frame.x(begun(run)), to = frame.x(ended(run) ?? time.end), name = String(earlier + place + 1);
    nodes.push(shape("rect", {class: "band", x: from, y: TOP, width: Math.max(to - from, 1), height: frame.bottom - TOP}));
    if (from - marked < 12) continue;
    marked = from;
    const line = (x, kind) => shape("line", {class: "mark " + kind, x1: x, x2: x, y1: TOP, y2: frame.bottom});
    nodes.push(line(from, "start"));
    if (known(ended(run)) && to - from >= 12) nodes.push(line(to, "end"));
    if (from - numbered < 8 + LETTER * name.length) continue;
    numbered = from;
    nodes.push(shape("text", {x: from, y: TOP - 4, "text-anchor": "middle"}, name));
  }
  return nodes;
}

// Lines between neighbours that are known; a dot where a point is alone, or where there are few.
function curve(frame, points) {
  let path = "", before = false;
  const few = points.filter(([, value]) => known(value)).length <= 40, dots = [];
  points.forEach(([at, value], place) => {
    if (known(value)) {
      const x = frame.x(at).toFixed(1), y = frame.y(value).toFixed(1), alone = !before && !known(points[place + 1]?.[1]);
      path += `${before ? "L" : "M"}${x} ${y}`;
      if (few || alone) dots.push(shape("circle", {class: "dot", cx: x, cy: y, r: 2.5}));
    }
    before = known(value);
  });
  return [shape("path", {class: "line", d: path || "M0 0"}), ...dots];
}

// The value under the pointer, in the caption.
function readout(svg, frame, points, quantity, output) {
  const hair = shape("line", {class: "hair", y1: TOP, y2: frame.bottom, visibility: "hidden"});
  const shown = points.map(([at, value], place) => [at, value, place]).filter(([, value]) => known(value));
  svg.append(hair);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const [at, value, place] = shown.reduce((a, b) => Math.abs(frame.x(b[0]) - x) < Math.abs(frame.x(a[0]) - x) ? b : a);
    for (const name of ["x1", "x2"]) hair.setAttribute(name, frame.x(at));
    hair.setAttribute("visibility", "visible");
    output.textContent = `${moment(new Date(series[place].wall * 1000))}  ${amount(quantity, value)}`;
  });
  svg.addEventListener("pointerleave", () => { hair.setAttribute("visibility", "hidden"); output.textContent = output.rest; });
}

function chart(quantity, width) {
  const points = series.map(point => [point.at, point[quantity]]), values = points.map(([, value]) => value).filter(known);
  const told = changes[quantity]?.verdict, trend = told ? t("trend." + told) : "";
  const [size, unit] = BYTES.includes(quantity) ? sizeFor(Math.max(...values)) : [1, ""];
  const scaled = values.map(value => value / size), scale = range(scaled, size === 1), time = stretch();
  const left = 10 + Math.max(...ticks(scale.low, scale.high, scale.by).map(value => breadth(label(value, scale.by))));
  const frame = {left, right: width - RIGHT, bottom: HEIGHT - BOTTOM};
  frame.x = at => frame.left + (at - time.start) / (time.end - time.start) * (frame.right - frame.left);
  frame.y = value => frame.bottom - (value - scale.low) / (scale.high - scale.low) * (frame.bottom - TOP);
  const {first = values[0], last = values.at(-1)} = changes[quantity] ?? {};  // the series may be thinned, its ends cut off
  const rest = `${amount(quantity, first)} → ${amount(quantity, last)}`;
  const output = Object.assign(make("span", {className: "soft"}, rest), {rest});
  const facts = {first: amount(quantity, first), last: amount(quantity, last), time: humane(time.end - time.start),
    low: amount(quantity, Math.min(...values)), high: amount(quantity, Math.max(...values)), trend: trend || "–"};
  const svg = shape("svg", {viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-labelledby": `title-${quantity} desc-${quantity}`},
    shape("title", {id: `title-${quantity}`}, t("chart.title", {quantity: t(quantity)})),
    shape("desc", {id: `desc-${quantity}`}, t("chart.desc", facts)),
    ...axes(frame, scale, time, unit), ...marks(frame, time), ...curve(frame, points.map(([at, value]) => [at, known(value) ? value / size : value])));
  readout(svg, frame, points, quantity, output);
  return make("figure", {className: told ?? ""},
    make("figcaption", {}, make("span", {}, t(quantity), " ", told === "growing" ? make("span", {className: "badge"}, trend) : ""), output), svg);
}

const measured = quantity => series.some(point => known(point[quantity]));
const zero = quantity => series.every(point => !point[quantity]);

function charts() {
  const box = byId("charts"), shown = QUANTITIES.filter(quantity => measured(quantity) && !zero(quantity));
  box.replaceChildren(...shown.map(() => make("figure", {})));  // laid out first: how wide is one?
  const width = Math.max(240, Math.floor((box.firstChild?.getBoundingClientRect().width ?? 0) - (box.clientWidth < 500 ? 18 : 30)));
  box.replaceChildren(...shown.map(quantity => chart(quantity, width)));
  box.drawn = box.clientWidth;
}

// All values, for those who cannot see a chart or want the numbers; made when asked for.
function values() {
  const box = byId("values");
  box.querySelector(".scroll")?.remove();
  if (!box.open) return;
  const shown = QUANTITIES.filter(measured);
  const columns = [[t("time")], ...shown.map(quantity => [t(quantity), "number"])];
  const cell = (point, quantity) => known(point[quantity]) ? amount(quantity, point[quantity]) : "–";
  const row = point => [moment(new Date(point.wall * 1000)), ...shown.map(quantity => cell(point, quantity))];
  box.append(table(t("values"), columns, series.map(row)));
}

function trends() {
  byId("trends").hidden = !series.length;
  if (!series.length) return;
  const none = QUANTITIES.filter(quantity => measured(quantity) && zero(quantity)).map(quantity => t(quantity)).join(t("list"));
  byId("trends-about").textContent = plural("trends.text", series.length);
  byId("marks").textContent = runs.length ? t("marks") : "";
  byId("zero").textContent = none ? t("zero", {names: none}) : "";
  charts();
  values();
}
