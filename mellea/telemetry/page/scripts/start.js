// The first drawing of the page, what happens when something changes, and the news of a run that goes on.

function drawAll() {
  drawTotals();
  drawFilters();
  applyFilter();
  drawTime();
  drawStrip();
}

const STATES = { live: "Live", lost: "Recorder not reached", over: "Over" };

function tellLive(state) {
  // A screen reader says a status whenever it is written.
  if (byId("live").textContent !== STATES[state]) byId("live").textContent = STATES[state];
  byId("live").className = `connection ${state}`;
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
  if (!shown) {
    document.title = byId("title").textContent = plain(run.spans[0].name);
    rows.select(remembered());
  } else if (changes.spans.some((each) => isInside(run.byId.get(each.id), shown))) show(shown, detail.scrollTop);
}

function drawChooser() {
  const select = byId("runs");
  select.hidden = !runs || runs.length < 2;
  select.replaceChildren(
    ...(runs ?? []).map(({ id, name, started, is_shown: isShown }) =>
      make("option", { value: id, selected: isShown }, `${oneLine(name, 50)}, ${formatTime(started)}`),
    ),
  );
  byId("title").classList.toggle("hidden", !select.hidden);
}

byId("runs").addEventListener("change", (event) =>
  location.assign(`?run=${encodeURIComponent(event.target.value)}`),
);
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
// A live page that was saved is a page like others.
if (live && location.protocol !== "file:") {
  byId("live").hidden = false;
  if (run.isRunning || !run.spans.length) {
    tellLive("live");
    follow(live, run, takeChanges, tellLive);
  } else tellLive("over");
}
