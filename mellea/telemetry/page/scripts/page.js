// The page: totals, filters, keys, and what happens when something is chosen.

const { spans, now, live, runs, title } = JSON.parse(byId("data").textContent);
const run = new Run();
run.merge(spans, now);
const timeline = new Timeline(run);
timeline.showAll();
const filter = new Filter();
const rows = new Rows(run, timeline, filter);
const detail = byId("detail");

const isNarrow = () => matchMedia("(max-width: 760px)").matches;

// -- totals ---------------------------------------------------------------------------------------------

function drawTotals() {
  const totals = run.totals;
  const { outcomes, firstText } = totals;
  const middle = firstText[firstText.length >> 1];
  const tokens = totals.requests > totals.withoutUsage;
  const aside = (condition, text) => (condition ? text : null);
  const facts = [
    ["Time", formatSeconds(run.ended)],
    ["Requests", formatCount(totals.requests), aside(totals.tools, plural(totals.tools, "tool call"))],
    ["Tokens in", tokens ? formatCount(totals.input) : "–", aside(totals.cached, `${formatCount(totals.cached)} cached`)],
    ["Tokens out", tokens ? formatCount(totals.output) : "–", aside(totals.reasoning, `${formatCount(totals.reasoning)} reasoning`)
      ?? aside(tokens && totals.withoutUsage, `unknown for ${formatCount(totals.withoutUsage)}`)],
    ["Cost", totals.requests === totals.withoutCost ? "unknown" : `${totals.withoutCost ? "≥ " : ""}${formatDollars(totals.cost)}`,
      aside(totals.withoutCost && totals.requests, `unknown for ${formatCount(totals.withoutCost)}`)],
    ["First text", middle === undefined ? "–" : formatSeconds(middle),
      aside(firstText.length > 1, `up to ${formatSeconds(firstText.at(-1) ?? 0)}`)],
    ["Went wrong", formatCount(outcomes.error + outcomes.cancelled + outcomes.lost), aside(outcomes.rejected, `${formatCount(outcomes.rejected)} rejected`)],
  ];
  byId("totals").replaceChildren(
    ...facts.map(([name, value, more]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, more ? [" ", make("small", {}, more)] : null))),
  );
  const state = run.isRunning ? "running" : run.roots.map((root) => root.outcome).find((each) => each !== "ok") ?? "ok";
  byId("state").textContent = run.spans.length ? OUTCOMES[state] : "Empty";
  byId("date").textContent = run.spans.length && byId("runs").hidden ? formatTime(run.began) : "";
  byId("state").className = `state ${state}`;
}

// -- filters --------------------------------------------------------------------------------------------

function drawChips(element, names, values, chosen) {
  const legend = element.querySelector("legend");
  const chips = Object.entries(names).filter(([name]) => values.get(name)).map(([name, word]) => {
    const box = make("input", { type: "checkbox", value: name });
    box.checked = chosen.has(name);
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(name);
      else chosen.delete(name);
      applyFilter();
    });
    return make(`label.chip.kind-${name}.outcome-${name}`, {}, box, make("i.mark", { "aria-hidden": "true" }), word, make("small", {}, formatCount(values.get(name))));
  });
  element.replaceChildren(legend, ...chips);
}

function countBy(of) {
  const found = new Map();
  for (const span of run.spans) found.set(of(span), (found.get(of(span)) ?? 0) + 1);
  return found;
}

function drawFilters() {
  const kinds = countBy((span) => span.data.kind);
  const names = { ...KINDS, ...Object.fromEntries([...kinds.keys()].filter((kind) => !KINDS[kind]).map((kind) => [kind, oneLine(kind, 20)])) };
  drawChips(byId("kinds"), names, kinds, filter.kinds);
  drawChips(byId("outcomes"), OUTCOMES, countBy((span) => span.outcome), filter.outcomes);
  const models = [...new Set(run.spans.filter((span) => span.isRequest && span.model).map((span) => span.model))].sort();
  const select = byId("model");
  select.replaceChildren(make("option", { value: "" }, "All models"), ...models.map((model) => make("option", { value: model }, oneLine(model, 60))));
  select.value = filter.model;
  select.hidden = models.length < 2;
}

function applyFilter() {
  rows.arrange();
  rows.draw();
  const { found } = rows;
  byId("found").textContent = found ? `${formatCount(found.length)} of ${plural(run.spans.length, "span")}` : plural(run.spans.length, "span");
  byId("clear").hidden = !filter.isActive;
  const empty = byId("empty");
  empty.hidden = rows.list.length > 0;
  empty.textContent = run.spans.length ? "Nothing fits. Escape clears the filter." : live ? "Nothing has been recorded yet. What comes appears here." : "This run has no spans.";
  highlight();
}

function clearFilter() {
  Object.assign(filter, { query: "", model: "" });
  filter.kinds.clear();
  filter.outcomes.clear();
  byId("query").value = "";
  drawFilters();
  applyFilter();
  if (rows.selected) rows.select(rows.selected, { isQuiet: true });
}

/** Mark the words that are searched for, without touching the elements that hold them. */
function highlight() {
  if (!globalThis.CSS?.highlights) return;
  const ranges = [];
  const words = filter.words;
  const walker = document.createTreeWalker(detail, NodeFilter.SHOW_TEXT);
  while (words.length && ranges.length < 1000 && walker.nextNode()) {
    const text = walker.currentNode.data.toLowerCase();
    for (const word of words) {
      for (let at = text.indexOf(word); at >= 0 && ranges.length < 1000; at = text.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, at);
        range.setEnd(walker.currentNode, Math.min(at + word.length, walker.currentNode.length));
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

// -- what is shown --------------------------------------------------------------------------------------

function open(span) {
  rows.select(span);
  if (isNarrow()) document.body.classList.add("reading");
}

function show(span, place = 0) {
  detail.replaceChildren(...showDetail(span, open));
  detail.scrollTop = place;
  detail.querySelector(".back").addEventListener("click", close);
  highlight();
  remember(span);
}

function close() {
  document.body.classList.remove("reading");
  rows.element.focus();
}

/** The address tells which span is shown, so that it can be passed on. */
function remember(span) {
  try {
    history.replaceState(null, "", `#span=${encodeURIComponent(span.id)}`);
  } catch {
    // A page in a frame without an origin has no history.
  }
}

function remembered() {
  const id = new URLSearchParams(location.hash.slice(1)).get("span");
  return run.spans.find((span) => String(span.id) === id) ?? run.spans[0];
}

function drawTime() {
  drawAxis(timeline, byId("axis"), byId("grid"));
  const time = byId("axis").getBoundingClientRect();
  const grid = byId("grid");
  grid.style.left = `${time.left - byId("canvas").getBoundingClientRect().left}px`;
  grid.style.width = `${time.width}px`;
  const strip = byId("window");
  strip.style.left = `${(timeline.from / timeline.whole) * 100}%`;
  strip.style.width = `${((timeline.to - timeline.from) / timeline.whole) * 100}%`;
  strip.hidden = timeline.isWhole;
  rows.draw();
}

function drawStrip() {
  drawDensity(run, byId("density"));
}

function changeTime(change) {
  change();
  drawTime();
}

// -- zoom -----------------------------------------------------------------------------------------------

function zoomTo(span) {
  if (span) changeTime(() => timeline.show(span.start - (span.end - span.start) * 0.1, span.end + (span.end - span.start) * 0.1));
}

byId("zoom-in").addEventListener("click", () => changeTime(() => timeline.zoom(0.5)));
byId("zoom-out").addEventListener("click", () => changeTime(() => timeline.zoom(2)));
byId("zoom-fit").addEventListener("click", () => changeTime(() => timeline.showAll()));
byId("fold").addEventListener("click", () => rows.foldAll());

rows.element.addEventListener("wheel", (event) => {
  const axis = byId("axis").getBoundingClientRect();
  const isAcross = Math.abs(event.deltaX) > Math.abs(event.deltaY);
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    const at = timeline.from + ((event.clientX - axis.left) / axis.width) * (timeline.to - timeline.from);
    changeTime(() => timeline.zoom(Math.exp(Math.min(Math.max(event.deltaY, -100), 100) / 150), at));
  } else if ((event.shiftKey || isAcross) && !timeline.isWhole) {
    event.preventDefault();
    changeTime(() => timeline.pan((event.deltaX || event.deltaY) / axis.width));
  }
}, { passive: false });

/** Drag over an element to show that part of the time. */
function dragToZoom(element, secondsAt) {
  let from = null;
  element.addEventListener("pointerdown", (event) => {
    from = event.clientX;
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointerup", (event) => {
    const ends = [from, event.clientX].sort((one, other) => one - other).map((x) => secondsAt(x));
    if (from !== null && Math.abs(event.clientX - from) > 4) changeTime(() => timeline.show(...ends));
    from = null;
  });
  element.addEventListener("dblclick", () => changeTime(() => timeline.showAll()));
}

function share(element, x) {
  const { left, width } = element.getBoundingClientRect();
  return Math.min(Math.max((x - left) / width, 0), 1);
}

dragToZoom(byId("strip"), (x) => share(byId("strip"), x) * timeline.whole);
dragToZoom(byId("axis"), (x) => timeline.from + share(byId("axis"), x) * (timeline.to - timeline.from));

// -- the border between timeline and details ------------------------------------------------------------

function setWidth(percent) {
  const kept = Math.round(Math.min(Math.max(percent, 20), 70));
  byId("main").style.setProperty("--detail", `${kept}%`);
  byId("splitter").setAttribute("aria-valuenow", kept);
}

byId("splitter").addEventListener("pointerdown", (event) => event.target.setPointerCapture(event.pointerId));
byId("splitter").addEventListener("pointermove", (event) => {
  if (event.target.hasPointerCapture(event.pointerId)) setWidth(100 - share(byId("main"), event.clientX) * 100);
});
byId("splitter").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: 4, ArrowRight: -4 }[event.key];
  if (!by) return;
  event.preventDefault();
  event.stopPropagation();
  setWidth(Number(event.target.getAttribute("aria-valuenow")) + by);
});

// -- keys -----------------------------------------------------------------------------------------------

const KEYS = [
  ["j k ↓ ↑", "next and previous span", { j: () => rows.move(1), k: () => rows.move(-1), ArrowDown: () => rows.move(1), ArrowUp: () => rows.move(-1) }],
  ["l → h ←", "unfold or go inside, fold or go out", { l: () => rows.moveIn(), ArrowRight: () => rows.moveIn(), h: () => rows.moveOut(), ArrowLeft: () => rows.moveOut() }],
  ["PgDn PgUp Home End", "far", {
    PageDown: () => rows.move(20), PageUp: () => rows.move(-20), Home: () => rows.select(rows.list[0]), End: () => rows.select(rows.list.at(-1)) }],
  ["Enter", "read the details", { Enter: () => (open(rows.selected ?? rows.list[0]), detail.focus()) }],
  ["/", "search", { "/": () => (close(), byId("query").focus(), byId("query").select()) }],
  ["n p", "next and previous hit, or what went wrong", { n: () => rows.moveToHit(1), p: () => rows.moveToHit(-1) }],
  ["Esc", "back to the timeline; clear the filter", { Escape: () => leave() }],
  ["+ − 0", "zoom in, out, all", {
    "+": () => changeTime(() => timeline.zoom(0.5)), "=": () => changeTime(() => timeline.zoom(0.5)),
    "-": () => changeTime(() => timeline.zoom(2)), 0: () => changeTime(() => timeline.showAll()) }],
  ["z", "zoom to the span", { z: () => zoomTo(rows.selected) }],
  [", .", "earlier, later", { ",": () => changeTime(() => timeline.pan(-0.25)), ".": () => changeTime(() => timeline.pan(0.25)) }],
  ["f", "fold or unfold everything", { f: () => rows.foldAll() }],
  ["t", "theme", { t: () => changeTheme() }],
  ["?", "this list", { "?": () => byId("help").showModal() }],
];
const ACTIONS = Object.assign({}, ...KEYS.map(([, , actions]) => actions));

function leave() {
  if (document.body.classList.contains("reading") || detail.contains(document.activeElement)) close();
  else if (filter.isActive) clearFilter();
}

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (target === byId("query")) {
    if (key === "Enter") event.preventDefault(), rows.element.focus(), rows.moveToHit(1);
    else if (key === "Escape") event.preventDefault(), clearFilter(), rows.element.focus();
    return;
  }
  const isControl = target.matches("button, select, input, summary, a, .whole");
  if (isControl && (key === "Enter" || key.startsWith("Arrow") || key.startsWith("Page") || target.matches("select"))) return;
  if (detail.contains(target) && /^(Arrow(Up|Down)|Page|Home|End)/.test(key)) return;
  const action = ACTIONS[key];
  if (!action) return;
  event.preventDefault();
  action();
});

byId("keys").append(...KEYS.map(([keys, words]) => make("div", {}, make("dt", {}, keys.split(" ").flatMap((key) => [make("kbd", {}, key), " "])), make("dd", {}, words))));
byId("help-button").addEventListener("click", () => byId("help").showModal());

// -- theme ----------------------------------------------------------------------------------------------

const THEMES = ["system", "light", "dark"];
let theme = "system";

function setTheme(name) {
  theme = THEMES.includes(name) ? name : "system";
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
  drawStrip();
}

function changeTheme() {
  setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
  try {
    localStorage.setItem("mellea-theme", theme);
  } catch {
    // Some browsers keep nothing for a file.
  }
}

function keptTheme() {
  try {
    return localStorage.getItem("mellea-theme");
  } catch {
    return null;
  }
}

byId("theme").addEventListener("click", changeTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawStrip);

// -- begin ----------------------------------------------------------------------------------------------

function drawAll() {
  drawTotals();
  drawFilters();
  applyFilter();
  drawTime();
  drawStrip();
}

const STATES = { live: "Live", lost: "Recorder not reached", over: "Over" };

function tellLive(state) {
  byId("live").textContent = STATES[state];
  byId("live").className = `live ${state}`;
  if (state === "live") tick();
}

/** Bars of what runs grow with the time, also while nothing is new. */
function tick() {
  run.tell();
  if (timeline.isWhole) timeline.showAll();
  drawTotals();
  drawTime();
}

function takeChanges(changes) {
  const shown = rows.selected;
  run.merge(changes.spans, changes.now);
  drawAll();
  drawChooser();
  if (!shown) rows.select(remembered());
  else if (changes.spans.some((each) => isInside(run.byId.get(each.id), shown))) show(shown, detail.scrollTop);
}

function drawChooser() {
  const select = byId("runs");
  select.hidden = !runs || runs.length < 2;
  select.replaceChildren(...(runs ?? []).map(({ id, name, started, is_shown: isShown }) =>
    make("option", { value: id, selected: isShown }, `${oneLine(name, 50)}, ${formatTime(started)}`)));
  byId("title").classList.toggle("hidden", !select.hidden);
}

byId("runs").addEventListener("change", (event) => location.assign(`?run=${encodeURIComponent(event.target.value)}`));
byId("query").addEventListener("input", (event) => {
  filter.query = event.target.value;
  applyFilter();
});
byId("model").addEventListener("change", (event) => {
  filter.model = event.target.value;
  applyFilter();
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", clearFilter);
rows.onselect = show;
rows.onopen = (span) => isNarrow() && open(span);
new ResizeObserver(() => (drawTime(), drawStrip())).observe(rows.element);
addEventListener("beforeprint", () => rows.draw({ isWhole: true }));
addEventListener("afterprint", () => rows.draw());
addEventListener("hashchange", () => rows.select(remembered()));

byId("title").textContent = plain(title);
setTheme(keptTheme());
drawChooser();
drawAll();
rows.select(remembered());
if (live && location.protocol !== "file:") { // a live page that was saved is a page like others
  byId("live").hidden = false;
  if (run.isRunning || !run.spans.length) {
    tellLive("live");
    follow(live, run, takeChanges, tellLive);
  } else tellLive("over");
}
