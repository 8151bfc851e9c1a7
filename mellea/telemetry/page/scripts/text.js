// Text and elements. Whatever a run holds becomes text nodes and nothing else: there is no innerHTML on this page.

const byId = (id) => document.getElementById(id);

/** Make an element: make("p.note.wide", {title: "…", onclick: act}, "text", child). */
function make(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make an element without attributes: box("li", "text", child). */
const box = (kind, ...children) => make(kind, {}, ...children);

function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// What would turn the direction of the text around it, or can't be seen, is written out. Among it are the tag
// characters, in which a prompt can hide another one.
const HIDDEN_CHARACTERS =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;

function plain(text) {
  return String(text).replace(
    HIDDEN_CHARACTERS,
    (character) => `‹U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`,
  );
}

function oneLine(text, length = 160) {
  const line = plain(String(text).slice(0, 4 * length))
    .replace(/\s+/g, " ")
    .trim();
  return line.length > length ? `${line.slice(0, length)}…` : line;
}

const counts = new Intl.NumberFormat("en");
const shortCounts = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const formatCount = (count) => counts.format(count);
const formatShort = (count) => (count < 100000 ? formatCount(count) : shortCounts.format(count));

function formatSeconds(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds < 0.00001) return `${(seconds * 1e6).toPrecision(2)} µs`;
  if (seconds < 0.0009995) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${(seconds * 1000).toPrecision(2)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} m`;
}

function formatDollars(dollars) {
  if (dollars === 0) return "$0";
  return dollars < 0.01
    ? `$${Number(dollars.toPrecision(2)).toFixed(8).replace(/0+$/, "")}`
    : `$${dollars.toFixed(2)}`;
}

function formatBytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const formatTime = (epoch) =>
  new Date(epoch * 1000).toLocaleString("en-GB", {
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });

const formatClock = (epoch) => new Date(epoch * 1000).toLocaleTimeString("en-GB");

const plural = (count, noun) => `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
