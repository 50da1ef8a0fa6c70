// What grows, what changed, and how each spider run fared.
const suspects = report.process.suspects ?? [];
const certainty = confidence => String(Number(Math.min(confidence * 100, 99.9).toPrecision(3)));
const arrow = (quantity, first, last) => `${amount(quantity, first)} → ${amount(quantity, last)}`;

function suspect(one) {
  const told = [rate(one.quantity, one.slope), t("sure", {n: certainty(one.confidence)})];
  if (known(one.eta_s)) told.push(t("eta", {time: humane(one.eta_s)}));
  return make("li", {}, make("span", {className: "badge"}, t(one.quantity)), " " + told.join(t("and")));
}

function growth() {
  byId("grows").hidden = !suspects.length;
  byId("suspects").replaceChildren(...suspects.map(suspect));
}

function firstAndLast() {
  const columns = [[t("quantity")], [t("first"), "number"], [t("last"), "number"], [t("change"), "number minor"], [t("trend")]];
  const row = key => {
    const {first, last, verdict} = changes[key];
    return [t(key), amount(key, first), amount(key, last), amount(key, last - first, true), t("trend." + verdict)];
  };
  const rows = QUANTITIES.filter(key => Object.hasOwn(changes, key)).map(row);
  byId("changes").replaceChildren(rows.length ? table(t("changes"), columns, rows) : "");
}

function types() {
  const found = report.process.type_changes ?? [];
  const columns = [[t("type"), "text"], [t("first"), "number"], [t("last"), "number"], [t("growth"), "number"]];
  const chain = one => one.referrers?.length ? make("p", {className: "soft"}, t("kept", {chain: one.referrers.join(" ← ")})) : "";
  const row = one => [[code(one.type), chain(one)], amount("", one.first), amount("", one.last), amount("", one.growth, true)];
  byId("types").hidden = !found.length;
  byId("type-rows").replaceChildren(found.length ? table(t("types"), columns, found.map(row)) : "");
}

function sites() {
  const found = report.process.memory_sites ?? [];
  const columns = [[t("place"), "text"], [t("growth"), "number"], [t("blocks"), "number"]];
  const row = one => [code(`${one.file}:${one.line}`), amount("rss", one.growth_bytes, true), amount("", one.count)];
  byId("sites").hidden = !found.length;
  byId("site-rows").replaceChildren(found.length ? table(t("sites"), columns, found.map(row)) : "");
}

// How a run ended, and its leaks: found by their fingerprints above.
const below = text => make("p", {className: "soft"}, text);
const outcome = run => [t("run." + run.outcome), run.error ? below(run.error) : ""];
const judged = run => [run.leaks ? make("span", {className: "badge error"}, t("run." + run.verdict)) : t("run." + run.verdict),
  run.leaks ? below(plural("handles", run.leaks)) : ""];

function runRow(run, place) {
  const open = Object.entries(run.open).map(([kind, count]) => `${kind}\u00a0${count}`).join(t("list"));
  const {rss: before} = run.before, {rss: after} = run.after ?? {};
  return [String(earlier + place + 1), [run.spider, below(code(run.run_id))], judged(run), outcome(run),
    known(run.pages) ? amount("", run.pages) : "–", known(run.duration_s) ? humane(run.duration_s) : "–", moment(new Date(run.started * 1000)),
    open || "–", known(before) && known(after) ? arrow("rss", before, after) : "–"];
}

function runTable() {
  const columns = [["#", "number"], [t("owner.spider"), "text"], [t("reason"), "whole"], [t("outcome")], [t("pages"), "number"],
    [t("duration"), "number"], [t("started"), "whole"], [t("still"), "text"], [t("memory"), "number"]];
  byId("runs").hidden = !runs.length;
  byId("run-rows").replaceChildren(runs.length ? table(t("runs"), columns, runs.map(runRow)) : "",
    earlier ? below(plural("earlier", earlier)) : "");
}
