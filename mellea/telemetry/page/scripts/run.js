// The spans of a run as a tree, what they add up to, and which of them a filter leaves.

const KINDS = {
  __proto__: null, // a kind may have any name
  call: "Call",
  attempt: "Attempt",
  check: "Check",
  tool: "Tool",
  step: "Step",
  agent: "Agent",
  wait: "Wait",
  work: "Work",
  image: "Image",
  video: "Video",
  embedding: "Embedding",
  function: "Function",
  trace: "Trace",
};

const OUTCOMES = {
  __proto__: null,
  ok: "OK",
  rejected: "Rejected",
  error: "Error",
  cancelled: "Cancelled",
  running: "Running",
  lost: "Lost",
};

/** The class of an element that has the colour of a kind; a kind may have any name. */
const classOfKind = (kind) => `kind-${KINDS[kind] ? kind : "other"}`;

class Span {
  constructor(data) {
    this.id = data.id;
    this.update(data);
  }

  update(data) {
    this.data = data;
    this.haystack = null;
  }

  /** How it ended: a key of OUTCOMES. A check that isn't met and an attempt that isn't accepted are rejected. What ran
      when its process was killed is lost. */
  get outcome() {
    const { status, is_accepted, is_met } = this.data;
    return status === "ok" && (is_accepted === false || is_met === false) ? "rejected" : status;
  }

  get name() {
    return this.data.tool ?? this.data.given_name ?? this.data.name;
  }

  /** Whether it failed by itself: an error that leaves many spans is one error. */
  get isOrigin() {
    const { status, error_type: type } = this.data;
    const isSame = ({ data }) => data.status === status && data.error_type === type;
    return status === "lost" || !this.children.some(isSame);
  }

  get isRequest() {
    return this.data.is_request === true;
  }

  get model() {
    return this.data.response_model ?? this.data.model;
  }

  /** All that can be found by a search, in lower case; made when it is first needed. */
  get text() {
    if (this.haystack === null) {
      const found = [];
      collectTexts(this.data, found);
      this.haystack = found.join("\n").toLowerCase();
    }
    return this.haystack;
  }

  /** The text that it wrote, or that its last request wrote. */
  get answer() {
    if (this.data.answer) return this.data.answer;
    for (let index = this.children.length - 1; index >= 0; index--) {
      const child = this.children[index];
      if (child.data.kind !== "check" && child.data.kind !== "tool" && child.answer) return child.answer;
    }
    return null;
  }
}

function isInside(span, outer) {
  let above = span;
  while (above && above !== outer) above = above.parent;
  return above === outer;
}

function collectTexts(value, found) {
  if (typeof value === "string") found.push(value);
  else if (typeof value === "object" && value !== null)
    for (const each of Object.values(value)) collectTexts(each, found);
}

/** The text of a message, its thoughts left out. */
function textOf(message) {
  const parts = message?.parts ?? [];
  return parts
    .filter((part) => part.type === "text")
    .map((part) => part.content)
    .join("");
}

class Run {
  constructor() {
    this.byId = new Map();
    this.spans = [];
    this.roots = [];
    this.offset = 0;
  }

  /** Take in spans that are new or have changed. `now` is the clock of the program, in seconds since the epoch. */
  merge(spans, now) {
    for (const data of spans) {
      const known = this.byId.get(data.id);
      if (known) known.update(data);
      else this.byId.set(data.id, new Span(data));
    }
    this.offset = now - Date.now() / 1000;
    this.arrange();
  }

  arrange() {
    const spans = [...this.byId.values()];
    for (const span of spans) Object.assign(span, { children: [], usedBy: [], links: [], parent: null });
    this.roots = [];
    for (const span of spans.sort((one, other) => one.data.started - other.data.started)) {
      span.parent = this.byId.get(span.data.parent) ?? null;
      (span.parent ? span.parent.children : this.roots).push(span);
      for (const id of span.data.links ?? []) {
        const source = this.byId.get(id);
        if (source) (span.links.push(source), source.usedBy.push(span));
      }
    }
    this.began = spans.length ? spans[0].data.started : 0;
    this.spans = [];
    this.walk(this.roots, 0);
    this.tell();
  }

  walk(spans, depth) {
    const waiting = spans.map((span) => [span, depth]).reverse();
    while (waiting.length) {
      const [span, level] = waiting.pop();
      span.depth = level;
      this.spans.push(span);
      for (let index = span.children.length - 1; index >= 0; index--)
        waiting.push([span.children[index], level + 1]);
    }
  }

  /** Work out begins and ends, in seconds since the run began; what runs still goes on until now. */
  tell() {
    const now = Date.now() / 1000 + this.offset - this.began;
    this.ended = 0;
    this.isRunning = false;
    for (const span of this.spans) {
      span.start = span.data.started - this.began;
      const isRunning = span.data.status === "running";
      span.end = isRunning ? Math.max(now, span.start) : span.start + (span.data.seconds ?? 0);
      this.ended = Math.max(this.ended, span.end);
      this.isRunning ||= isRunning;
    }
    for (const span of this.spans) {
      // A call that is made of thunks is sent when the last of them is there.
      const ready = span.links.reduce((latest, link) => Math.max(latest, link.end), span.start);
      span.sent = Math.min(ready, span.end);
    }
    for (const root of this.roots) addUp(root);
  }

  get totals() {
    const all = this.roots.map((root) => root.figures);
    const first = this.spans.filter((span) => span.isRequest && span.data.time_to_first_chunk !== undefined);
    const count = (isCounted) => this.spans.filter(isCounted).length;
    return {
      ...all.reduce(join, NOTHING),
      firstText: first.map((span) => span.data.time_to_first_chunk).sort((one, other) => one - other),
      errors: count((span) => ["error", "lost"].includes(span.outcome) && span.isOrigin),
      cancelled: count((span) => span.outcome === "cancelled" && span.isOrigin),
      // A check that isn't met is why its attempt is rejected, not one more rejection.
      rejected: count((span) => span.outcome === "rejected" && span.data.kind === "attempt"),
      unmet: count(
        ({ outcome, parent, data }) =>
          outcome === "rejected" && data.kind === "check" && parent?.data.kind !== "attempt",
      ),
    };
  }
}

const NOTHING = {
  requests: 0,
  input: 0,
  output: 0,
  cached: 0,
  reasoning: 0,
  withoutUsage: 0,
  cost: 0,
  withoutCost: 0,
  tools: 0,
};

function join(one, other) {
  return Object.fromEntries(Object.keys(NOTHING).map((name) => [name, one[name] + other[name]]));
}

/** Add up the requests of a span and of all below it. Walks without recursion: a run may be very deep. */
function addUp(root) {
  const waiting = [root];
  const order = [];
  while (waiting.length) {
    const span = waiting.pop();
    order.push(span);
    waiting.push(...span.children);
  }
  for (const span of order.reverse()) {
    const figures = { ...NOTHING };
    for (const part of [ownFigures(span.data), ...span.children.map((child) => child.figures)]) {
      for (const name in figures) figures[name] += part[name];
    }
    span.figures = figures;
  }
}

function ownFigures(data) {
  if (!data.is_request) return { ...NOTHING, tools: data.kind === "tool" ? 1 : 0 };
  return {
    ...NOTHING,
    requests: 1,
    input: data.input_tokens ?? 0,
    output: data.output_tokens ?? 0,
    cached: data.cached_tokens ?? 0,
    reasoning: data.reasoning_tokens ?? 0,
    withoutUsage: data.input_tokens === undefined && data.output_tokens === undefined ? 1 : 0,
    cost: data.cost ?? 0,
    withoutCost: data.cost === undefined ? 1 : 0,
  };
}

/** What is asked for: words, kinds, outcomes, a model. */
class Filter {
  constructor() {
    this.query = "";
    this.kinds = new Set();
    this.outcomes = new Set();
    this.model = "";
  }

  get isActive() {
    return Boolean(this.query || this.kinds.size || this.outcomes.size || this.model);
  }

  get words() {
    return this.query.toLowerCase().split(/\s+/).filter(Boolean);
  }

  /** Return the spans that fit, in order. */
  apply(spans) {
    const words = this.words;
    return spans.filter(
      (span) =>
        (!this.kinds.size || this.kinds.has(span.data.kind)) &&
        (!this.outcomes.size || this.outcomes.has(span.outcome)) &&
        (!this.model || span.model === this.model) &&
        words.every((word) => span.text.includes(word)),
    );
  }
}
