// What a person can do to the page by mouse, finger and keys: zoom, move the border, choose, switch the theme.

// -- zoom -----------------------------------------------------------------------------------------------

function zoomTo(span) {
  if (span)
    changeTime(() =>
      timeline.show(span.start - (span.end - span.start) * 0.1, span.end + (span.end - span.start) * 0.1),
    );
}

byId("zoom-in").addEventListener("click", () => changeTime(() => timeline.zoom(0.5)));
byId("zoom-out").addEventListener("click", () => changeTime(() => timeline.zoom(2)));
byId("zoom-fit").addEventListener("click", () => changeTime(() => timeline.showAll()));
byId("fold").addEventListener("click", () => rows.foldAll());

rows.element.addEventListener(
  "wheel",
  (event) => {
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
  },
  { passive: false },
);

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

// Side by side, or one above the other on a screen that is taller than wide.
const isStacked = () => STACKED.matches && !PHONE.matches;

function turnSplitter() {
  byId("splitter").setAttribute("aria-orientation", isStacked() ? "horizontal" : "vertical");
  byId("splitter").setAttribute("aria-label", isStacked() ? "Height of the details" : "Width of the details");
}

for (const media of [PHONE, STACKED]) media.addEventListener("change", turnSplitter);
turnSplitter();

function setWidth(percent) {
  const kept = Math.round(Math.min(Math.max(percent, 20), 70));
  byId("main").style.setProperty("--detail", `${kept}%`);
  byId("splitter").setAttribute("aria-valuenow", kept);
}

byId("splitter").addEventListener("pointerdown", (event) => event.target.setPointerCapture(event.pointerId));
byId("splitter").addEventListener("pointermove", (event) => {
  if (!event.target.hasPointerCapture(event.pointerId)) return;
  const { left, top, width, height } = byId("main").getBoundingClientRect();
  setWidth(100 * (1 - (isStacked() ? (event.clientY - top) / height : (event.clientX - left) / width)));
});
byId("splitter").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: 4, ArrowRight: -4, ArrowUp: 4, ArrowDown: -4 }[event.key];
  if (!by) return;
  event.preventDefault();
  event.stopPropagation();
  setWidth(Number(event.target.getAttribute("aria-valuenow")) + by);
});

// -- keys -----------------------------------------------------------------------------------------------

const KEYS = [
  [
    "j k ↓ ↑",
    "next and previous span",
    { j: () => rows.move(1), k: () => rows.move(-1), ArrowDown: () => rows.move(1), ArrowUp: () => rows.move(-1) },
  ],
  [
    "l → h ←",
    "unfold or go inside, fold or go out",
    {
      l: () => rows.moveIn(),
      ArrowRight: () => rows.moveIn(),
      h: () => rows.moveOut(),
      ArrowLeft: () => rows.moveOut(),
    },
  ],
  [
    "PgDn PgUp Home End",
    "20 spans on or back, the first, the last",
    {
      PageDown: () => rows.move(20),
      PageUp: () => rows.move(-20),
      Home: () => rows.select(rows.list[0]),
      End: () => rows.select(rows.list.at(-1)),
    },
  ],
  ["Enter", "read the details", { Enter: () => (open(rows.selected ?? rows.list[0]), detail.focus()) }],
  ["/", "search", { "/": () => (close(), byId("query").focus(), byId("query").select()) }],
  ["n p", "next and previous hit; without a search, what failed", { n: () => rows.moveToHit(1), p: () => rows.moveToHit(-1) }],
  ["Esc", "back to the timeline; clear the filter", { Escape: () => leave() }],
  [
    "+ − 0",
    "zoom in, zoom out, show the whole run",
    {
      "+": () => changeTime(() => timeline.zoom(0.5)),
      "=": () => changeTime(() => timeline.zoom(0.5)),
      "-": () => changeTime(() => timeline.zoom(2)),
      0: () => changeTime(() => timeline.showAll()),
    },
  ],
  ["z", "zoom to the selected span", { z: () => zoomTo(rows.selected) }],
  [
    ", .",
    "show what was earlier, later",
    { ",": () => changeTime(() => timeline.pan(-0.25)), ".": () => changeTime(() => timeline.pan(0.25)) },
  ],
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
    if (key === "Enter") (event.preventDefault(), rows.element.focus(), rows.moveToHit(1));
    else if (key === "Escape") (event.preventDefault(), clearFilter(), rows.element.focus());
    return;
  }
  const isControl = target.matches("button, select, input, summary, a, .whole");
  if (
    isControl &&
    (key === "Enter" || key.startsWith("Arrow") || key.startsWith("Page") || target.matches("select"))
  )
    return;
  if (detail.contains(target) && /^(Arrow(Up|Down)|Page|Home|End)/.test(key)) return;
  const action = ACTIONS[key];
  if (!action) return;
  event.preventDefault();
  action();
});

byId("keys").append(
  ...KEYS.map(([keys, words]) =>
    box(
      "div",
      box(
        "dt",
        keys.split(" ").flatMap((key) => [box("kbd", key), " "]),
      ),
      box("dd", words),
    ),
  ),
);
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
