// A streamed text with when it came: a curve of what came at a time, and a slider that plays it again.

const BINS = 60;

/** When the text of a span came: [{at: seconds since it was sent, length: characters by then}], or null. */
function arrivalsOf(span) {
  const { chunks } = span.data;
  if (!chunks?.length) return null;
  let length = 0;
  const waited = span.sent - span.start;
  return chunks.map(([milliseconds, characters]) => ({
    at: Math.max(milliseconds / 1000 - waited, 0),
    length: (length += characters),
  }));
}

function showStreamed(span) {
  const arrivals = arrivalsOf(span);
  const text = textOf(span.data.answer);
  if (!arrivals || arrivals.length < 2 || !text) return null;
  const others = span.data.answer.parts.filter((part) => part.type !== "text");
  return [
    ...others.filter((part) => part.type === "reasoning").map(showPart),
    ...showReplay(text, arrivals, span),
    ...others.filter((part) => part.type !== "reasoning").map(showPart),
  ];
}

function showReplay(text, arrivals, span) {
  const end = arrivals.at(-1).at;
  const came = box("span");
  const rest = box("span.to-come");
  const shown = text.slice(0, LONG_TEXT);
  const shownText = make("pre.text.streamed", { dir: "auto" }, came, rest);
  const clock = box("output", formatSeconds(end));
  const slider = make("input", {
    type: "range",
    min: 0,
    max: 1000,
    value: 1000,
    "aria-label": "Time of the stream",
  });
  const button = make("button", { type: "button" }, "Replay");
  const needle = makeSvg("line", { class: "needle", y1: 0, y2: 24 });
  const show = (seconds) => {
    const length = lengthAt(arrivals, seconds);
    came.textContent = plain(shown.slice(0, length));
    rest.textContent = plain(shown.slice(length)) + (text.length > LONG_TEXT ? "…" : "");
    clock.textContent = `${formatSeconds(seconds)}, ${plural(Math.min(length, text.length), "character")}`;
    slider.setAttribute("aria-valuetext", clock.textContent);
    for (const name of ["x1", "x2"]) needle.setAttribute(name, (seconds / end) * 240);
  };
  slider.addEventListener("input", () => (stop(), show((slider.value / 1000) * end)));
  let frame = null;
  const stop = () => {
    cancelAnimationFrame(frame);
    frame = null;
    button.textContent = "Replay";
  };
  const play = () => {
    if (frame !== null) return stop();
    button.textContent = "Stop";
    const from = slider.value >= 1000 ? 0 : (slider.value / 1000) * end;
    const begun = performance.now();
    const step = (now) => {
      if (!shownText.isConnected) return;
      const seconds = Math.min(from + (now - begun) / 1000, end);
      slider.value = (seconds / end) * 1000;
      show(seconds);
      if (seconds < end) frame = requestAnimationFrame(step);
      else stop();
    };
    frame = requestAnimationFrame(step);
  };
  button.addEventListener("click", play);
  show(end);
  const words = `First text after ${formatSeconds(arrivals[0].at)}, the last after ${formatSeconds(end)}, in ${plural(span.data.chunk_count ?? arrivals.length, "chunk")}`;
  const player = box(
    "div.replay",
    button,
    box("div.track", drawCurve(arrivals, end, needle, words), slider),
    clock,
  );
  if (text.length <= LONG_TEXT) return [player, shownText];
  const whole = box("details", box("summary", `All ${formatCount(text.length)} characters`));
  whole.addEventListener("toggle", () => whole.open && whole.append(showTextWhole(text)), { once: true });
  return [player, shownText, whole];
}

function showTextWhole(text) {
  return make("pre.text.whole", { dir: "auto", tabindex: 0 }, plain(text));
}

/** How many characters had come by a time; the last arrival that isn't later tells it. */
function lengthAt(arrivals, seconds) {
  let low = 0;
  let high = arrivals.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (arrivals[middle].at <= seconds) low = middle + 1;
    else high = middle;
  }
  return low ? arrivals[low - 1].length : 0;
}

function drawCurve(arrivals, end, needle, words) {
  const bins = new Array(BINS).fill(0);
  let before = 0;
  for (const { at, length } of arrivals) {
    bins[Math.min(Math.floor((at / end) * BINS), BINS - 1)] += length - before;
    before = length;
  }
  const most = Math.max(...bins, 1);
  const bars = bins.map((characters, index) => {
    const tall = characters ? Math.max(1.5, (characters / most) * 22) : 0;
    return makeSvg("rect", { x: index * 4, y: 24 - tall, width: 3, height: tall });
  });
  return makeSvg(
    "svg",
    { class: "curve", viewBox: "0 0 240 24", preserveAspectRatio: "none", role: "img", "aria-label": words },
    ...bars,
    needle,
  );
}
