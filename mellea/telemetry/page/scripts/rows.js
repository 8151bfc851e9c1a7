// The tree of spans as rows. Only those in sight are in the document, so that tens of thousands stay quick.

const SPARE_ROWS = 6;

class Rows {
  constructor(run, timeline, filter) {
    Object.assign(this, { run, timeline, filter });
    this.element = byId("rows");
    this.canvas = byId("canvas");
    this.group = byId("window-rows");
    this.links = byId("links");
    this.folded = new Set();
    this.selected = null;
    this.onselect = () => {};
    this.arrange();
    this.element.addEventListener("scroll", () => this.drawSoon());
    this.element.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.drawSoon()).observe(this.element);
  }

  /** Work out which rows there are: all, or what fits the filter, with what is above it. */
  arrange() {
    this.found = this.filter.isActive ? this.filter.apply(this.run.spans) : null;
    this.hits = new Set(this.found ?? []);
    const shown = this.found && new Set();
    for (const hit of this.found ?? []) {
      for (let span = hit; span && !shown.has(span); span = span.parent) shown.add(span);
    }
    this.list = [];
    let hiddenBelow = Infinity;
    for (const span of this.run.spans) {
      if (span.depth > hiddenBelow) continue;
      hiddenBelow = Infinity;
      if (shown && !shown.has(span)) continue;
      this.list.push(span);
      if (!shown && this.folded.has(span.id)) hiddenBelow = span.depth;
    }
    this.places = new Map(this.list.map((span, index) => [span, index]));
    // Deep trees are indented less, so that names keep their place.
    const deepest = this.list.reduce((most, span) => Math.max(most, span.depth), 1);
    this.canvas.style.setProperty("--indent", `${Math.min(14, Math.max(112 / deepest, 0.5))}px`);
    this.linked = this.list.filter((span) => span.links.length).map((span) => [span, this.places.get(span)]);
  }

  /** The row that stands for a span: its own, or that of what it is folded away in. */
  shownFor(span) {
    let shown = span;
    while (shown && !this.places.has(shown)) shown = shown.parent;
    return shown;
  }

  isOpen(span) {
    return span.children.length > 0 && (this.found !== null || !this.folded.has(span.id));
  }

  fold(span, isFolded) {
    if (!span.children.length) return;
    if (isFolded) this.folded.add(span.id);
    else this.folded.delete(span.id);
    this.arrange();
    this.draw();
  }

  foldAll() {
    const inner = this.run.spans.filter((span) => span.children.length && span.depth > 0);
    const isFolded = inner.every((span) => this.folded.has(span.id));
    this.folded = new Set(isFolded ? [] : inner.map((span) => span.id));
    this.arrange();
    this.select(this.shownFor(this.selected) ?? this.list[0]);
  }

  select(span, { isQuiet = false } = {}) {
    if (!span) return;
    this.selected = span;
    for (let above = span.parent; above; above = above.parent) this.folded.delete(above.id);
    if (!this.places.has(span)) this.arrange();
    this.reveal(span);
    this.draw();
    if (!isQuiet) this.onselect(span);
  }

  /** Move by so many rows. */
  move(by) {
    const at = this.places.get(this.selected) ?? (by > 0 ? -1 : this.list.length);
    this.select(this.list[Math.min(Math.max(at + by, 0), this.list.length - 1)]);
  }

  /** Go to the next row that fits the filter, or that went wrong if there is no filter. */
  moveToHit(by) {
    const wanted = this.found
      ? (span) => this.hits.has(span)
      : (span) => ["rejected", "error", "cancelled"].includes(span.outcome);
    const count = this.list.length;
    const begin = this.places.get(this.selected) ?? (by > 0 ? -1 : 0);
    for (let step = 1; step <= count; step++) {
      const span = this.list[(((begin + by * step) % count) + count) % count];
      if (wanted(span)) return this.select(span);
    }
  }

  /** Right: open, or go inside. */
  moveIn() {
    const span = this.selected;
    if (!span?.children.length) return;
    if (!this.isOpen(span)) this.fold(span, false);
    else this.move(1);
  }

  /** Left: fold, or go to what is above. */
  moveOut() {
    const span = this.selected;
    if (!span) return;
    if (this.isOpen(span) && this.found === null) this.fold(span, true);
    else if (span.parent) this.select(span.parent);
  }

  reveal(span) {
    const { rowHeight, element: view } = this;
    const top = this.places.get(span) * rowHeight;
    const above = view.scrollTop - top;
    const below = top + rowHeight - view.scrollTop - view.clientHeight;
    this.canvas.style.height = `${this.list.length * rowHeight}px`;
    if (Math.max(above, below) > 1.5 * rowHeight) view.scrollTop = top - view.clientHeight / 2;
    else if (above > 0) view.scrollTop = top;
    else if (below > 0) view.scrollTop += below;
  }

  get rowHeight() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--row"));
  }

  /** Where the middle of a bar stands, as a share of its row's height. */
  get barAt() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--bar-at"));
  }

  drawSoon() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  /** Draw the rows in sight; all of them for a printer. */
  draw({ isWhole = false } = {}) {
    if (this.frame) cancelAnimationFrame(this.frame);
    this.frame = null;
    const { rowHeight, list, element } = this;
    const first = isWhole ? 0 : Math.max(Math.floor(element.scrollTop / rowHeight) - SPARE_ROWS, 0);
    const seen = Math.ceil(element.clientHeight / rowHeight) + 2 * SPARE_ROWS;
    const last = isWhole ? list.length : Math.min(first + seen, list.length);
    this.canvas.style.height = `${list.length * rowHeight}px`;
    this.group.style.transform = `translateY(${first * rowHeight}px)`;
    this.group.replaceChildren(...list.slice(first, last).map((span, index) => this.drawRow(span, first + index)));
    element.setAttribute("aria-rowcount", list.length);
    const place = this.places.get(this.selected);
    if (place >= first && place < last) element.setAttribute("aria-activedescendant", `row-${place}`);
    else element.removeAttribute("aria-activedescendant");
    this.drawLinks(first, last, rowHeight);
  }

  drawLinks(first, last, rowHeight) {
    const time = this.group.querySelector(".time");
    if (!time) return this.links.replaceChildren();
    const { timeline, selected } = this;
    const { left, width } = time.getBoundingClientRect();
    const begin = left - this.canvas.getBoundingClientRect().left;
    drawLinks(this.links, this, { first, last, rowHeight, left: begin, width, timeline, selected });
  }

  drawRow(span, index) {
    const { data } = span;
    const isParent = span.children.length > 0;
    const row = make(`div.row.${classOfKind(data.kind)}`, {
      role: "row",
      id: `row-${index}`,
      "aria-level": span.depth + 1,
      "aria-rowindex": index + 1,
      "aria-expanded": isParent ? String(this.isOpen(span)) : null,
      "aria-selected": String(span === this.selected),
    });
    row.classList.toggle("aside", this.found !== null && !this.hits.has(span));
    const name = make(
      "div.name",
      { role: "gridcell" },
      this.drawToggle(span),
      make("i.mark", { "aria-hidden": "true" }),
      box("span.kind", `${KINDS[data.kind] ?? oneLine(data.kind, 20)} `),
      make("bdi.label", { title: oneLine(labelOf(span), 400) }, oneLine(labelOf(span), 80)),
      data.is_streaming ? box("span.early", "while streaming") : null,
      drawOutcome(span),
      drawAsked(span),
    );
    name.style.setProperty("--depth", span.depth);
    const time = make(
      "div.time",
      { role: "gridcell", "aria-label": `begins at ${formatSeconds(span.start)}` },
      drawBar(span, this.timeline),
    );
    row.append(name, time, ...drawFigures(span));
    return row;
  }

  drawToggle(span) {
    if (!span.children.length) return box("span.toggle");
    return make("span.toggle.arrow", { "aria-hidden": "true" }, this.isOpen(span) ? "▾" : "▸");
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const span = this.list[Number(row.id.slice(4))];
    if (event.target.closest(".arrow")) this.fold(span, this.isOpen(span));
    else (this.select(span), this.onopen(span));
  }
}

/** What a row says beside its kind: the name, unless that only repeats the kind. */
function labelOf(span) {
  const { data } = span;
  if (data.kind === "attempt" || data.kind === "step") return data.number ?? data.name.replace(/^\D+/, "");
  if (data.kind === "check") return data.requirement ?? data.check ?? data.name;
  return span.name;
}

function drawOutcome(span) {
  const outcome = span.outcome;
  if (outcome === "ok") return null;
  const words = {
    rejected: span.data.kind === "check" ? "not met" : "rejected",
    error: span.data.error_type ?? "error",
  };
  return box(`span.tag.${outcome}`, oneLine(words[outcome] ?? outcome, 40));
}

/** What a call without a name asks for: many of them stand in one list, all called after their component. */
function drawAsked(span) {
  const { data } = span;
  if (data.kind !== "call" || data.given_name || !data.messages) return null;
  const text = data.messages.at(-1)?.parts.find((part) => part.type === "text")?.content;
  return text ? make("span.snippet", { dir: "auto" }, oneLine(text, 60)) : null;
}

function drawFigures(span) {
  const { figures, data } = span;
  const hasTokens = figures.requests > figures.withoutUsage;
  const tokens = hasTokens ? `${figures.withoutUsage ? "≥ " : ""}${formatShort(figures.input + figures.output)}` : "";
  const cost =
    figures.requests > figures.withoutCost
      ? `${figures.withoutCost ? "≥ " : ""}${formatDollars(figures.cost)}`
      : "";
  return [
    make("div.figure.seconds", { role: "gridcell" }, formatSeconds(span.end - span.start)),
    make(
      "div.figure.tokens",
      { role: "gridcell", "aria-label": tokens && plural(figures.input + figures.output, "token") },
      tokens,
    ),
    make("div.figure.cost", { role: "gridcell" }, cost),
  ];
}
