// The page as a whole: verdict, languages, and the order in which its parts are drawn.
const TONES = {healthy: "fine", leak_detected: "error", insufficient_data: "warning"};

function banner() {
  const mine = report.leaks.filter(accused);
  const counts = {handles: plural("handles", handles(mine)), places: plural("places", new Set(mine.map(entry => entry.fingerprint)).size)};
  const growing = suspects.map(one => `${t(one.quantity)} ${rate(one.quantity, one.slope)}`).join(t("list"));
  byId("verdict").className = "banner " + (TONES[report.status] ?? "note");
  byId("verdict").replaceChildren(make("strong", {}, t(report.status)), make("p", {}, t(report.status + ".text", counts)),
    report.left_out ? make("p", {}, t("left_out", {n: report.left_out})) : "",
    growing ? make("p", {className: "soft"}, t("grows.brief", {names: growing})) : "");
}

function about() {
  const when = new Date(report.generated_at);
  const shown = isNaN(when) ? report.generated_at ?? "" : when.toLocaleString(lang, {dateStyle: "medium", timeStyle: "long"});
  byId("about").replaceChildren(report.command ? code(report.command) : "", report.command ? " · " : "",
    make("time", {dateTime: report.generated_at}, shown));
}

// Where to find what, on a page that may be long.
function parts() {
  const shown = [...document.querySelectorAll("main > section:not([hidden]) > h2")];
  const link = title => make("a", {href: "#" + title.parentNode.id}, title.textContent);
  byId("parts").replaceChildren(...(shown.length > 2 ? shown.map(link) : []));
  byId("parts").ariaLabel = t("parts");
}

function languages() {
  const button = key => {
    const props = {type: "button", className: "small", lang: key, ariaPressed: String(key === lang)};
    const node = make("button", props, texts[key].name);
    node.addEventListener("click", () => { lang = key; draw(); byId("languages").querySelector(`[lang=${key}]`).focus(); });
    return node;
  };
  byId("languages").replaceChildren(...Object.keys(texts).map(button));
  byId("languages").ariaLabel = t("language");
}

function draw() {
  document.documentElement.lang = lang;
  document.title = `${t(report.status)} · ${t("title")}`;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  const all = [languages, about, banner, lists, shortages, growth, trends, firstAndLast, types, sites, runTable, live, tools, sift, parts];
  for (const part of all) part();
}

byId("tools").addEventListener("input", sift);
byId("tools").addEventListener("submit", event => event.preventDefault());
byId("values").addEventListener("toggle", values);
addEventListener("resize", () => { if (byId("charts").drawn !== byId("charts").clientWidth) charts(); });
addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details:not(.values)")) one.open = true; });
draw();
