// What the page is made of, its totals and filters, and what is shown when a span is chosen.

const { spans, now, live, runs, title } = JSON.parse(byId("data").textContent);
const run = new Run();
run.merge(spans, now);
const timeline = new Timeline(run);
timeline.showAll();
const filter = new Filter();
const rows = new Rows(run, timeline, filter);
const detail = byId("detail");

// As in page.css.
const PHONE = matchMedia("(max-width: 760px), (max-width: 960px) and (max-height: 500px)");
const STACKED = matchMedia("(max-width: 1000px) and (min-height: 800px)");
const isNarrow = () => PHONE.matches;

// -- totals ---------------------------------------------------------------------------------------------

function drawTotals() {
  const totals = run.totals;
  const { errors, cancelled, rejected, unmet, firstText } = totals;
  const middle = firstText[firstText.length >> 1];
  const tokens = totals.requests > totals.withoutUsage;
  const aside = (condition, text) => (condition ? text : null);
  const facts = [
    ["Time", formatSeconds(run.ended)],
    ["Requests", formatCount(totals.requests), aside(totals.tools, plural(totals.tools, "tool call"))],
    [
      "Tokens in",
      tokens ? formatCount(totals.input) : "–",
      aside(totals.cached, `${formatCount(totals.cached)} cached`),
    ],
    [
      "Tokens out",
      tokens ? formatCount(totals.output) : "–",
      aside(totals.reasoning, `${formatCount(totals.reasoning)} reasoning`) ??
        aside(tokens && totals.withoutUsage, `unknown for ${formatCount(totals.withoutUsage)}`),
    ],
    [
      "Cost",
      !totals.requests
        ? "–"
        : totals.requests === totals.withoutCost
          ? "unknown"
          : `${totals.withoutCost ? "≥ " : ""}${formatDollars(totals.cost)}`,
      // Where tokens are unknown the cost is, too, which is said once.
      aside(
        ![0, totals.withoutUsage, totals.requests].includes(totals.withoutCost),
        `unknown for ${formatCount(totals.withoutCost)}`,
      ),
    ],
    [
      "First text",
      middle === undefined ? "–" : formatSeconds(middle),
      aside(firstText.at(-1) > middle, `up to ${formatSeconds(firstText.at(-1) ?? 0)}`),
    ],
    [
      "Errors",
      formatCount(errors),
      [
        aside(rejected, `${formatCount(rejected)} rejected`),
        aside(unmet, `${plural(unmet, "check")} not met`),
        aside(cancelled, `${formatCount(cancelled)} cancelled`),
      ]
        .filter(Boolean)
        .join(", "),
    ],
  ];
  byId("totals").replaceChildren(
    ...facts.map(([name, value, more]) =>
      box("div", box("dt", name), box("dd", value, more ? [" ", box("small", more)] : null)),
    ),
  );
  byId("totals").lastChild.classList.toggle("wrong", errors > 0);
  const state = run.isRunning
    ? "running"
    : (run.roots.map((root) => root.outcome).find((each) => each !== "ok") ?? "ok");
  byId("state").textContent = run.spans.length ? OUTCOMES[state] : "Empty";
  byId("date").textContent = run.spans.length && byId("runs").hidden ? formatTime(run.began) : "";
  byId("state").className = `state ${state}`;
}

// -- filters --------------------------------------------------------------------------------------------

function drawChips(element, names, values, chosen, kindOf) {
  const legend = element.querySelector("legend");
  const focused = element.contains(document.activeElement) ? document.activeElement.value : null;
  const chips = Object.entries(names)
    .filter(([name]) => values.get(name))
    .map(([name, word]) => {
      const check = make("input", { type: "checkbox", value: name });
      check.checked = chosen.has(name);
      check.addEventListener("change", () => {
        if (check.checked) chosen.add(name);
        else chosen.delete(name);
        applyFilter();
      });
      return box(
        `label.chip.${kindOf(name)}`,
        check,
        make("i.mark", { "aria-hidden": "true" }),
        word,
        box("small", formatCount(values.get(name))),
      );
    });
  element.replaceChildren(legend, ...chips);
  [...element.querySelectorAll("input")].find((check) => check.value === focused)?.focus();
}

function countBy(of) {
  const found = new Map();
  for (const span of run.spans) found.set(of(span), (found.get(of(span)) ?? 0) + 1);
  return found;
}

function drawFilters() {
  const kinds = countBy((span) => span.data.kind);
  const names = {
    ...KINDS,
    ...Object.fromEntries(
      [...kinds.keys()].filter((kind) => !KINDS[kind]).map((kind) => [kind, oneLine(kind, 20)]),
    ),
  };
  drawChips(byId("kinds"), names, kinds, filter.kinds, classOfKind);
  drawChips(
    byId("outcomes"),
    OUTCOMES,
    countBy((span) => span.outcome),
    filter.outcomes,
    (outcome) => `outcome-${outcome}`,
  );
  const models = [
    ...new Set(run.spans.filter((span) => span.isRequest && span.model).map((span) => span.model)),
  ].sort();
  const select = byId("model");
  select.replaceChildren(
    make("option", { value: "" }, "All models"),
    ...models.map((model) => make("option", { value: model }, oneLine(model, 60))),
  );
  select.value = filter.model;
  select.hidden = models.length < 2;
}

function applyFilter() {
  rows.arrange();
  rows.draw();
  const { found } = rows;
  byId("found").textContent = found
    ? `${formatCount(found.length)} of ${plural(run.spans.length, "span")}`
    : plural(run.spans.length, "span");
  byId("clear").hidden = !filter.isActive;
  const empty = byId("empty");
  empty.hidden = rows.list.length > 0;
  empty.textContent = run.spans.length
    ? "Nothing fits. Escape clears the filter."
    : live
      ? "Nothing has been recorded yet. What comes appears here."
      : "This run has no spans.";
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
    const { data } = walker.currentNode;
    const text = data.toLowerCase(); // longer than the text, in some scripts
    for (const word of words) {
      for (
        let at = text.indexOf(word);
        at >= 0 && ranges.length < 1000;
        at = text.indexOf(word, at + word.length)
      ) {
        const range = new Range();
        range.setStart(walker.currentNode, Math.min(at, data.length));
        range.setEnd(walker.currentNode, Math.min(at + word.length, data.length));
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
