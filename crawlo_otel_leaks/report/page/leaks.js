// Leaks by fingerprint, what ran out, what is held: who has it, and which line took it.
const ORDER = ["abandoned", "owner_finished", "loop_closed", "scope_end", "process_exit", "held_too_long", "slow"];
const LIKELY = ["process_exit", "held_too_long"];
const OWNER = ["spider", "run_id", "task", "thread", "scope"];
const HOLDERS = 10;

const accused = entry => entry.reason !== "slow" && !entry.resolved;
const strength = entry => (ORDER.indexOf(entry.reason) + ORDER.length + 1) % (ORDER.length + 1);
const tone = entry => accused(entry) ? (LIKELY.includes(entry.reason) ? "warning" : "error") : entry.resolved ? "fine" : "note";
const handles = entries => entries.reduce((sum, entry) => sum + entry.count, 0);

// Entries of one fingerprint together; the strongest verdict, then the most handles, first.
function grouped(entries) {
  const sorted = [...entries].sort((a, b) => strength(a) - strength(b) || b.count - a.count);
  const groups = new Map();
  for (const entry of sorted) {
    groups.set(entry.fingerprint, [...(groups.get(entry.fingerprint) ?? []), entry]);
  }
  return [...groups.values()];
}

function traceLink(id) {
  const href = choices.trace_url.replaceAll("{trace_id}", encodeURIComponent(id));
  return make("a", {href, target: "_blank", rel: "noopener noreferrer"}, t("open"));
}

function facts(entry) {
  const list = make("dl", {});
  const add = (name, ...values) => list.append(make("dt", {}, name), make("dd", {}, ...values));
  const link = entry.trace_id && choices.trace_url ? traceLink(entry.trace_id) : null;
  if (entry.trace_id) add(t("trace"), code(entry.trace_id), copyButton(entry.trace_id, t("trace")), link);
  if (entry.span_id) add(t("span"), code(entry.span_id), copyButton(entry.span_id, t("span")));
  for (const key of OWNER) {
    if (entry.owner[key]) add(t("owner." + key), make("span", {}, entry.owner[key]));
  }
  for (const held of entry.holds ?? []) add(t("holds"), code(held));
  return list;
}

function stack(frames) {
  const lines = frames.map(frame => `${frame.file}:${frame.line} ${t("in")} ${frame.function}` + (frame.text ? `\n    ${frame.text}` : ""));
  const title = t("stack", {n: frames.length});
  return make("details", {}, make("summary", {}, title), scrollable(lines.join("\n"), title));
}

// Everything an entry says, for the filter.
const words = value => value !== null && typeof value === "object" ? Object.values(value).map(words).join("\n") : String(value);

function verdict(entry) {
  const told = key => has(entry.reason + key) ? t(entry.reason + key) : "";
  const why = entry.resolved ? t("resolved.why") : told(".why") || t("strange.why", {reason: entry.reason});
  const head = make("div", {className: "row"},
    make("span", {className: "badge"}, entry.resolved ? t("resolved") : t(entry.reason)),
    make("span", {}, plural("handles", entry.count)),
    make("span", {}, t("held", {time: humane(entry.held_s)})),
    make("code", {className: "soft"}, entry.reason));
  const node = make("section", {className: "verdict " + tone(entry)}, head, make("p", {}, why),
    make("p", {className: "soft"}, entry.resolved ? t("verdict.was", {reason: t(entry.reason)}) : told(".remedy")),
    entry.name ? make("p", {}, code(entry.name)) : null,
    facts(entry), entry.stack.length ? stack(entry.stack) : null);
  return Object.assign(node, {entry, words: words(entry).toLowerCase()});
}

function card(entries) {
  const {site, kind, fingerprint} = entries[0];
  return make("article", {className: "leak"},
    make("div", {className: "row spread"}, make("h3", {}, ...place(site)), make("span", {className: "chip"}, kind)),
    site.text ? scrollable(site.text, t("line")) : null,
    ...entries.map(verdict),
    make("p", {className: "print soft"}, t("fingerprint") + " ", code(fingerprint), " ", copyButton(fingerprint, t("fingerprint"))));
}

function lists() {
  const mine = report.leaks.filter(accused), others = report.leaks.filter(entry => !accused(entry));
  byId("leaks").replaceChildren(...(mine.length ? grouped(mine).map(card) : [make("p", {}, t("leaks.none"))]));
  byId("others").replaceChildren(...grouped(others).map(card));
  byId("aside").hidden = !others.length;
}

function tools() {
  const before = byId("text")?.value ?? "", was = byId("reason")?.value ?? "";
  const text = make("input", {id: "text", type: "search", value: before, placeholder: t("filter.hint")});
  const found = [...report.leaks].sort((a, b) => strength(a) - strength(b)).map(entry => entry.reason);
  const option = (value, label) => make("option", {value, selected: value === was}, label);
  const reason = make("select", {id: "reason"}, option("", t("reason.all")), ...[...new Set(found)].map(key => option(key, t(key))));
  byId("tools").replaceChildren(make("label", {className: "wide"}, t("filter"), text),
    make("label", {}, t("reason"), reason), make("output", {id: "shown"}));
  byId("tools").hidden = !report.leaks.length;
}

function sift() {
  const wanted = byId("text").value.trim().toLowerCase(), reason = byId("reason").value;
  const rows = [...document.querySelectorAll(".verdict")];
  for (const row of rows) row.hidden = !row.words.includes(wanted) || Boolean(reason && row.entry.reason !== reason);
  for (const leak of document.querySelectorAll(".leak")) leak.hidden = !leak.querySelector(".verdict:not([hidden])");
  byId("shown").textContent = t("shown", {n: rows.filter(row => !row.hidden).length, all: rows.length});
}

// Who held what ran out, by place: the answer to "which line took them all?".
function shortage(one) {
  const held = one.limit === null ? String(one.held) : t("of", {n: one.held, all: one.limit});
  const columns = [[t("count"), "number"], [t("holders"), "text"], [t("longest"), "number"], [t("trace")]];
  const row = group => [String(group.count),
    [code(group.where), group.owner_finished ? make("span", {className: "soft"}, ` (${t("finished")})`) : ""],
    humane(group.held_s),
    group.trace_id ? [code(group.trace_id), " ", copyButton(group.trace_id, t("trace"))] : ""];
  const shown = one.holders.slice(0, HOLDERS), rest = handles(one.holders.slice(HOLDERS));
  return make("article", {className: "shortage"},
    make("div", {className: "row spread"}, make("h3", {}, code(one.what)), make("span", {className: "chip"}, plural("times", one.count))),
    make("p", {}, t("ran_out.text", {held, time: humane(one.waited_s)})),
    shown.length ? table(t("holders"), columns, shown.map(row)) : null,
    rest ? make("p", {className: "soft"}, t("elsewhere", {n: rest})) : null);
}

function shortages() {
  const all = report.shortages ?? [];
  byId("ran-out").hidden = !all.length;
  byId("shortages").replaceChildren(...all.map(shortage));
}

function live() {
  const rows = Object.entries(report.handles.by_kind ?? {}).sort((a, b) => b[1] - a[1]);
  const all = rows.length > 1 ? [t("total"), String(rows.reduce((sum, [, count]) => sum + count, 0))] : null;
  const body = rows.map(([kind, count]) => [code(kind), String(count)]);
  byId("live").replaceChildren(rows.length ? table(t("live"), [[t("kind")], [t("count"), "number"]], body, all) : make("p", {}, t("live.none")));
}
