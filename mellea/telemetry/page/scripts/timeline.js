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

  ticks(width) {
    const length = this.to - this.from;
    const wanted = length / Math.max(width / 64, 1);
    const power = 10 ** Math.floor(Math.log10(wanted));
    const steps = wanted > 20 ? CLOCK_STEPS : [power, 2 * power, 5 * power, 10 * power];
    const step = steps.find((each) => each >= wanted) ?? Math.ceil(wanted / 86400) * 86400;
    const ticks = [];
    for (let number = Math.ceil(this.from / step); number * step <= this.to; number++) {
      ticks.push({ at: this.at(number * step), label: formatTick(number * step, step) });
    }
    return ticks;
  }
}

function formatTick(seconds, step) {
  if (step >= 30 || seconds === 0) return formatSeconds(seconds);
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
      const isLast = (1 - tick.at) * width < 60;
      label.classList.toggle("last", isLast);
      label.hidden = isLast && gap < 130 && tick !== ticks[0];
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
  const levels = [];
  for (let x = 0, level = 0; x < width; x++) levels.push((level += changes[x]));
  const most = levels.reduce((one, other) => Math.max(one, other), 1);
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).color;
  levels.forEach((level, x) => {
    const tall = level ? Math.max(2, (level / most) * (height - 4)) : 0;
    context.fillRect(x, height - tall, 1, tall);
  });
}

/** Links from thunks to the calls that are made of them, between the rows that are seen. */
function drawLinks(svg, rows, { first, last, rowHeight, left, width, timeline, selected }) {
  const yOf = (row) => (row + rows.barAt) * rowHeight;
  const paths = [];
  for (const [target, row] of rows.linked) {
    for (const source of target.links) {
      const shown = rows.shownFor(source);
      const above = rows.places.get(shown);
      if (shown !== source && (rows.found || isInside(target, shown))) continue; // nothing to be seen of it
      if (Math.max(above, row) < first || Math.min(above, row) > last) continue;
      const ends = [timeline.at(source.end), timeline.at(Math.max(target.start, source.end))];
      if (ends.every((end) => end < 0) || ends.every((end) => end > 1)) continue;
      const [from, to] = ends.map((end) => left + Math.min(Math.max(end, 0), 1) * width);
      const isNear = selected === source || selected === target;
      paths.push({ isNear, path: curve(from, yOf(above), to, yOf(row)) });
    }
    if (paths.length > MOST_LINKS) break;
  }
  paths.sort((one, other) => one.isNear - other.isNear);
  svg.replaceChildren(
    ...paths.map(({ isNear, path }) => makeSvg("path", { d: path, class: isNear ? "near" : "" })),
  );
}

/** A line that leaves a bar at its end, and comes from above or below upon the bar that waited for it. */
function curve(x, y, toX, toY) {
  const tall = toY > y ? -7 : 7;
  const bend = toX - x < 4 ? 7 : 0;
  const round = (number) => Math.round(number * 10) / 10;
  const [a, b, c, d, e] = [x, y, toX, toY + tall, bend].map(round);
  const head = tall < 0 ? "m-3 -4l3 4l3 -4" : "m-3 4l3 -4l3 4";
  return `M${a} ${b}C${a + e} ${b} ${c + e} ${b} ${c + e} ${round((b + d) / 2)}S${c} ${d} ${c} ${d}${head}`;
}
