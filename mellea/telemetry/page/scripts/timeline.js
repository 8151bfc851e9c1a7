// Time across the page: which part of the run is shown, its axis, the strip above it, bars, and links between bars.

const MOST_LINKS = 400;
const CLOCK_STEPS = [30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400]; // in seconds

class Timeline {
  constructor(run) {
    this.run = run;
    this.from = 0;
    this.to = 1;
    this.isWhole = true;
  }

  get whole() {
    return Math.max(this.run.ended, 0.001) * 1.02;
  }

  /** Show a part of the run, in seconds since its begin. */
  show(from, to) {
    const whole = this.whole;
    const length = Math.min(Math.max(to - from, whole / 1e5, 1e-5), whole);
    this.from = Math.min(Math.max(from, 0), whole - length);
    this.to = this.from + length;
    this.isWhole = length >= whole;
  }

  showAll() {
    this.show(0, this.whole);
  }

  zoom(factor, at = (this.from + this.to) / 2) {
    this.show(at - (at - this.from) * factor, at + (this.to - at) * factor);
  }

  pan(share) {
    const by = (this.to - this.from) * share;
    if (this.from + by < 0) this.show(0, this.to - this.from);
    else this.show(this.from + by, this.to + by);
  }

  /** Where a time stands, as a share of the width; may be outside 0 … 1. */
  at(seconds) {
    return (seconds - this.from) / (this.to - this.from);
  }

  /** The times that the axis names: some five, or on a wide axis one for each 64 pixels, if their labels have room. */
  ticks(width) {
    const length = this.to - this.from;
    const power = 10 ** Math.floor(Math.log10((length / Math.max(width, 1)) * 20));
    const steps = [1, 2, 5, 10, 20, 50, 100].map((count) => count * power).filter((step) => step < CLOCK_STEPS[0]);
    const days = Math.ceil(((length / Math.max(width, 1)) * 64) / 86400) * 86400;
    // No label is narrower than 20 pixels, so smaller steps needn't be tried: there may be millions of them.
    const likely = [...steps, ...CLOCK_STEPS].filter((step) => length / step <= width / 20);
    for (const step of [...likely, days]) {
      const ticks = this.ticksOf(step);
      const widest = Math.max(...ticks.map((tick) => widthOfTick(tick.label)));
      if (step === days || (step / length) * width >= Math.max(widest, Math.min(64, width / 5))) return ticks;
    }
  }

  ticksOf(step) {
    const ticks = [];
    for (let number = Math.ceil(this.from / step); number * step <= this.to; number++) {
      ticks.push({ at: this.at(number * step), label: formatTick(number * step, step) });
    }
    return ticks;
  }
}

/** How many pixels a label and the gap behind it take, at least. */
const widthOfTick = (label) => 10 + 7 * label.length;

function formatTick(seconds, step) {
  if (seconds === 0) return "0 s";
  // Only what differs from tick to tick: "2 h" rather than "2 h 00 m".
  if (step >= 30) {
    const parts = [
      [Math.floor(seconds / 3600), "h"],
      [Math.floor((seconds % 3600) / 60), "m"],
      [seconds % 60, "s"],
    ];
    return parts
      .filter(([count]) => count)
      .map(([count, unit]) => `${count} ${unit}`)
      .join(" ");
  }
  const unit = seconds >= 1 ? 1 : 1000;
  const digits = Math.min(Math.max(Math.ceil(-Math.log10(step * unit) - 1e-9), 0), 9);
  return `${(seconds * unit).toFixed(digits)} ${unit === 1 ? "s" : "ms"}`;
}

function place(element, from, to) {
  const left = Math.min(Math.max(from, -0.01), 1.01);
  const right = Math.min(Math.max(to, -0.01), 1.01);
  element.style.left = `${left * 100}%`;
  element.style.width = `${Math.max(right - left, 0) * 100}%`;
}

/** The bar of a span: thin while it waits for its ingredients, pale until the first text, then solid. */
function drawBar(span, timeline) {
  const bar = make(`div.bar.${span.isRequest ? "request" : "frame"}.${span.outcome}`);
  const from = timeline.at(span.start);
  const to = timeline.at(span.end);
  place(bar, from, to);
  bar.hidden = to < 0 || from > 1;
  const first = span.sent + (span.data.time_to_first_chunk ?? 0);
  const parts = [
    ["thin", span.start, span.sent],
    ["pale", span.sent, first],
    ["full", Math.min(first, span.end), span.end],
  ];
  const shown = parts.filter(([, begin, end]) => end > begin && timeline.at(end) > 0 && timeline.at(begin) < 1);
  const left = Math.max(from, -0.01);
  const width = Math.min(to, 1.01) - left || 1;
  bar.append(
    ...(shown.length ? shown : [["full", span.start, span.end]]).map(([name, begin, end]) => {
      const part = make(`div.${name}`);
      place(
        part,
        (Math.max(timeline.at(begin), left) - left) / width,
        (Math.min(timeline.at(end), 1.01) - left) / width || 1,
      );
      return part;
    }),
  );
  return bar;
}

function drawAxis(timeline, axis, grid) {
  const width = axis.clientWidth;
  const ticks = timeline.ticks(width);
  const gap = ticks.length > 1 ? (ticks[1].at - ticks[0].at) * width : width;
  const lines = [];
  axis.replaceChildren(
    ...ticks.map((tick) => {
      const label = box("span.tick", tick.label);
      label.style.left = `${tick.at * 100}%`;
      // At the right edge a label stands on the other side of its line, where the one before it leaves room for it.
      const isLast = (1 - tick.at) * width < widthOfTick(tick.label);
      label.classList.toggle("last", isLast);
      label.hidden = isLast && gap < 2 * widthOfTick(tick.label) && tick !== ticks[0];
      const line = box("div.line");
      line.style.left = `${tick.at * 100}%`;
      lines.push(line);
      return label;
    }),
  );
  grid.replaceChildren(...lines);
}

/** The whole run in one strip: how many requests and tools were under way at a time. */
function drawDensity(run, canvas) {
  const width = Math.max(Math.round(canvas.clientWidth * devicePixelRatio), 1);
  const height = Math.max(Math.round(canvas.clientHeight * devicePixelRatio), 1);
  Object.assign(canvas, { width, height });
  const whole = Math.max(run.ended, 0.001) * 1.02;
  const changes = new Float64Array(width + 1);
  for (const span of run.spans) {
    if (!span.isRequest && span.data.kind !== "tool") continue;
    const from = Math.floor((span.start / whole) * width);
    changes[from] += 1;
    changes[Math.min(Math.max(Math.ceil((span.end / whole) * width), from + 1), width)] -= 1;
  }
  const failures = run.spans.filter((span) => ["error", "lost"].includes(span.outcome) && span.isOrigin);
  const levels = [];
  for (let x = 0, level = 0; x < width; x++) levels.push((level += changes[x]));
  const most = levels.reduce((one, other) => Math.max(one, other), 1);
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).color;
  levels.forEach((level, x) => {
    const tall = level ? Math.max(2, (level / most) * (height - 4)) : 0;
    context.fillRect(x, height - tall, 1, tall);
  });
  context.fillStyle = getComputedStyle(canvas).outlineColor;
  for (const span of failures) {
    context.fillRect(Math.min(Math.floor((span.end / whole) * width), width - 3), 0, 3, height);
  }
}

/** Links from thunks to the calls that use them: from the end of each bar across to where the call could begin, and
    down or up to it, so that any number of them share one upright line. */
function drawLinks(svg, rows, { first, last, rowHeight, left, width, timeline, selected }) {
  const paths = [];
  for (const [target, row] of rows.linked) {
    const far = [];
    const near = [];
    for (const source of target.links) {
      const shown = rows.shownFor(source);
      const place = rows.places.get(shown);
      if (shown !== source && (rows.found || isInside(target, shown))) continue; // nothing to be seen of it
      if (Math.max(place, row) < first || Math.min(place, row) > last) continue;
      if (timeline.at(source.end) > 1 && timeline.at(target.sent) > 1) continue;
      (selected === source || selected === target ? near : far).push([source, place]);
    }
    if (timeline.at(target.sent) < 0) continue;
    const xOf = (seconds) => left + Math.min(Math.max(timeline.at(seconds), 0), 1) * width;
    const yOf = (place) => (Math.min(Math.max(place, first - 1), last + 1) + rows.barAt) * rowHeight;
    for (const [sources, isNear] of [[far, false], [near, true]]) {
      if (!sources.length) continue;
      const ends = sources.map(([source, place]) => [xOf(source.end), yOf(place), place >= first && place <= last]);
      paths.push({ isNear, path: drawBranches(ends, xOf(target.sent), yOf(row)) });
    }
    if (paths.length > MOST_LINKS) break;
  }
  paths.sort((one, other) => one.isNear - other.isNear);
  svg.replaceChildren(
    ...paths.map(({ isNear, path }) => makeSvg("path", { d: path, class: isNear ? "near" : "" })),
  );
}

const CORNER = 4;

/** Lines from the ends of bars, of those in sight, that meet on one upright line to (x, y), with a head. */
function drawBranches(ends, x, y) {
  const round = (number) => Math.round(number * 10) / 10;
  const path = [];
  for (const [fromX, fromY, isInSight] of ends) {
    const corner = Math.sign(x - fromX) * Math.min(CORNER, Math.abs(x - fromX));
    if (isInSight) {
      const [a, b, c, d] = [fromX, fromY, x - corner, fromY + Math.sign(y - fromY) * CORNER].map(round);
      path.push(`M${a} ${b}H${c}Q${round(x)} ${b} ${round(x)} ${d}`);
    }
  }
  for (const side of [-1, 1]) {
    const there = ends.map((end) => end[1]).filter((fromY) => Math.sign(fromY - y) === side);
    if (!there.length) continue;
    const farthest = side < 0 ? Math.min(...there) : Math.max(...there);
    const tip = y + side * 7;
    const head = `m-3 ${4 * side}l3 ${-4 * side}l3 ${4 * side}`;
    path.push(`M${round(x)} ${round(farthest - side * CORNER)}V${round(tip)}${head}`);
  }
  return path.join("");
}
