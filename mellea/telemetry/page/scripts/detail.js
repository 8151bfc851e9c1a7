// What is known of one span: its attempts with the reasons of rejections, its prompt, its answer, its tools.

const LONG_TEXT = 6000;
const MOST_CHILDREN = 200;

/** A text as it is, in a box; of a long one the beginning, and the rest when asked for. */
function showText(content, kind = "pre.text") {
  const text = String(content ?? "");
  const shown = make(kind, { dir: "auto" }, plain(text.slice(0, LONG_TEXT)));
  if (text.length <= LONG_TEXT) return shown;
  shown.append("…");
  const more = make("button.more", { type: "button" }, `Show all ${formatCount(text.length)} characters`);
  more.addEventListener("click", () => {
    shown.replaceChildren(plain(text));
    shown.classList.add("whole");
    shown.tabIndex = 0;
    more.remove();
    shown.focus();
  });
  return [shown, more];
}

function showJson(value) {
  return showText(typeof value === "string" ? value : JSON.stringify(value, null, 2), "pre.code");
}

function section(title, ...content) {
  return box("section.block", box("h3", title), ...content);
}

const PARTS = {
  __proto__: null,
  text: (part) => showText(part.content),
  reasoning: (part) =>
    box(
      "details.thoughts",
      box("summary", `Thoughts, ${plural(part.content.length, "character")}`),
      showText(part.content),
    ),
  tool_call: (part) => showCall(part, "calls"),
  server_tool_call: (part) => showCall(part, "calls, at the provider,"),
  tool_call_response: (part) => showResponse(part, "result"),
  server_tool_call_response: (part) => showResponse(part, "result from the provider"),
  blob: (part) => showFile(part, formatBytes(part.size ?? 0)),
  uri: (part) => showFile(part, part.uri ?? ""),
  source: (part) =>
    box(
      "p.source",
      "Source: ",
      box("bdi", oneLine(part.title || part.uri || "")),
      part.title && part.uri ? box("bdi.quiet-text", ` ${oneLine(part.uri)}`) : null,
    ),
};

function showPart(part) {
  return PARTS[part.type] ? PARTS[part.type](part) : showJson(part);
}

function showCall(part, verb) {
  return box(
    "div.tool-call",
    box("p.line", `${verb} `, box("code", plain(part.name ?? "?"))),
    showJson(part.arguments ?? {}),
  );
}

function showResponse(part, word) {
  const { response } = part;
  const content = Array.isArray(response) ? response.map(showPart) : showJson(response ?? "");
  return box("div.tool-call", box("p.line.quiet-text", word), content);
}

// A picture of what it is, not the file itself: a recording has no bytes of files.
function showFile(part, more) {
  return box(
    "div.file",
    box("span.file-kind", part.modality ?? "file"),
    box("span", plain(part.mime_type ?? "")),
    box("bdi.quiet-text", oneLine(more, 200)),
  );
}

function showMessage(message, content = message.parts.map(showPart)) {
  const role = plain(message.role ?? "?");
  return make(
    `article.message.role-${/^[a-z]+$/.test(role) ? role : "other"}`,
    { "aria-label": `message of ${role}` },
    box("h4", role),
    box("div.parts", content.length ? content : box("p.quiet-text", "(empty)")),
  );
}

function showMessages(span) {
  const { messages, tools } = span.data;
  if (!messages) return null;
  const names = (tools ?? []).map((tool) => box("code.chip", plain(tool.name)));
  return section(
    "Prompt as sent",
    messages.map((message) => showMessage(message)),
    names.length ? box("p.tools", "Tools offered: ", ...names) : null,
  );
}

/** What an agent, a step or a call of several requests came to: the answer of its last request. */
function showOutcome(span) {
  const isOuter = ["agent", "call", "step"].includes(span.data.kind) && !span.isRequest;
  const text =
    isOuter && span.answer && !span.children.some((child) => child.data.kind === "attempt")
      ? textOf(span.answer)
      : "";
  return text ? section("Last answer", showText(text)) : null;
}

function showAnswer(span) {
  const { answer } = span.data;
  if (!answer || !(answer.parts.length || span.data.status !== "ok")) return null;
  const title =
    span.data.status === "ok" ? "Answer" : span.data.status === "running" ? "Answer so far" : "What had come";
  return section(title, showMessage(answer, showStreamed(span) ?? answer.parts.map(showPart)));
}

/** The text on the left, and on its right why it was rejected, or that it was accepted. */
function showVerdict(text, isAccepted, word, reasons) {
  const shown = text === null ? box("p.quiet-text", "Its text wasn't recorded.") : showText(text || "(empty)");
  const why = reasons.map(({ requirement, reason }) =>
    box(
      "li",
      requirement ? make("b", { dir: "auto" }, oneLine(requirement, 400)) : null,
      reason ? make("p", { dir: "auto" }, plain(reason)) : null,
    ),
  );
  return box(
    "div.verdict",
    box("div.about", shown),
    make(
      `div.why.${isAccepted === false ? "rejected" : "ok"}`,
      { role: "group", "aria-label": "Verdict" },
      box("h5", word),
      why.length ? box("ul", why) : null,
    ),
  );
}

function showAttempt(span, open) {
  const { is_accepted: isAccepted, reasons, status } = span.data;
  const heading = box(
    "h4",
    make("button.link", { type: "button", onclick: () => open(span) }, `Attempt ${span.data.number ?? ""}`),
    box("span.quiet-text", ` ${formatSeconds(span.end - span.start)}`),
  );
  const text = span.answer ? textOf(span.answer) : null;
  const word = { true: "Accepted", false: "Rejected" }[isAccepted] ?? OUTCOMES[status] ?? "";
  return box("article.attempt", heading, showVerdict(text, isAccepted, word, reasons ?? reasonsOfChecks(span)));
}

/** Why an attempt was rejected, as its checks tell it: where what was said isn't recorded, only their names. */
function reasonsOfChecks(span) {
  return span.children
    .filter((child) => child.data.is_met === false)
    .map(({ data }) => ({ requirement: data.requirement ?? data.check, reason: data.reason }));
}

function showAttempts(span, open) {
  const attempts =
    span.data.kind === "attempt" ? [span] : span.children.filter((child) => child.data.kind === "attempt");
  return attempts.length
    ? section(
        attempts.length > 1 ? "Attempts" : "Attempt",
        attempts.map((each) => showAttempt(each, open)),
      )
    : null;
}

function showCheck(span) {
  if (span.data.kind !== "check") return null;
  const { data } = span;
  const checked =
    span.parent?.children.filter((each) => each.isRequest && each.answer && each.start <= span.start).at(-1) ??
    span.parent;
  const text = checked?.answer ? textOf(checked.answer) : null;
  const word = { true: "Met", false: "Not met" }[data.is_met] ?? OUTCOMES[data.status] ?? "";
  const why = [{ reason: data.reason }, { reason: data.score === undefined ? null : `Score ${data.score}` }];
  return section(
    "What was checked",
    showVerdict(
      text,
      data.is_met,
      word,
      why.filter(({ reason }) => reason),
    ),
  );
}

function showTool(span) {
  const { kind, arguments: passed, result, is_error: isError } = span.data;
  if (kind !== "tool") return null;
  return [
    passed === undefined ? null : section("Arguments", showJson(passed)),
    result === undefined
      ? null
      : section(
          isError ? "Result (an error)" : "Result",
          Array.isArray(result) ? result.map(showPart) : showJson(result),
        ),
  ];
}

function showSpans(title, spans, open) {
  if (!spans.length) return null;
  const items = spans
    .slice(0, MOST_CHILDREN)
    .map((span) =>
      box(
        "li",
        make(
          `button.span-link.${classOfKind(span.data.kind)}`,
          { type: "button", onclick: () => open(span) },
          make("i.mark", { "aria-hidden": "true" }),
          box("span.kind", KINDS[span.data.kind] ?? oneLine(span.data.kind, 20)),
          box("bdi.label", oneLine(labelOf(span), 60)),
          drawOutcome(span),
          make("span.snippet", { dir: "auto" }, snippetOf(span)),
          box("span.quiet-text", formatSeconds(span.end - span.start)),
        ),
      ),
    );
  const more =
    spans.length > MOST_CHILDREN
      ? box("p.quiet-text", `and ${formatCount(spans.length - MOST_CHILDREN)} more`)
      : null;
  return section(title, box("ul.spans", items), more);
}

function snippetOf(span) {
  if (span.data.kind === "tool")
    return span.data.result === undefined
      ? ""
      : oneLine(typeof span.data.result === "string" ? span.data.result : JSON.stringify(span.data.result), 90);
  if (span.data.kind === "check") return oneLine(span.data.reason ?? "", 90);
  const text = span.answer ? textOf(span.answer) : "";
  return oneLine(text || span.children.filter((child) => child.data.kind === "tool").map(labelOf).join(", "), 90);
}

function fact(name, value, title) {
  return value === undefined || value === null || value === ""
    ? null
    : make("div", { title }, box("dt", name), make("dd", { dir: "auto" }, value));
}

function showFacts(span) {
  const { data, figures } = span;
  const requests = span.isRequest ? null : figures.requests;
  const tokens =
    figures.requests > figures.withoutUsage
      ? tokensOf(figures)
      : figures.requests && data.status !== "running"
        ? "unknown"
        : null;
  const cost = figures.requests && (data.status !== "running" || figures.cost) ? costOf(figures) : null;
  const options = Object.entries(data.options ?? {})
    .map(([name, value]) => `${name} ${JSON.stringify(value)}`)
    .join(", ");
  return box(
    "dl.facts",
    fact("Duration", data.status === "running" ? "running" : formatSeconds(span.end - span.start)),
    fact("Begins at", `+${formatSeconds(span.start)} (${formatClock(data.started)})`, formatTime(data.started)),
    fact(
      "First text after",
      data.time_to_first_chunk === undefined ? null : formatSeconds(data.time_to_first_chunk),
    ),
    fact("Requests", requests ? formatCount(requests) : null),
    fact("Tokens", tokens),
    fact("Cost", cost),
    fact("Chunks", data.chunk_count === undefined ? null : formatCount(data.chunk_count)),
    fact("Sent again", data.retries ? `${plural(data.retries, "time")}` : null),
    fact("Finish reason", data.finish_reason && plain(data.finish_reason)),
    fact("Model", span.model && oneLine(span.model)),
    fact("Provider", data.provider && oneLine(data.provider)),
    fact("Server", data.server && oneLine(data.port ? `${data.server}:${data.port}` : data.server)),
    fact("Options", options && oneLine(options, 300)),
    fact("Response", data.response_id && oneLine(data.response_id)),
    fact("Session", data.session && oneLine(data.session)),
  );
}

function tokensOf({ input, output, cached, reasoning, withoutUsage }) {
  const more = [
    cached ? `${formatCount(cached)} cached` : "",
    reasoning ? `${formatCount(reasoning)} reasoning` : "",
  ]
    .filter(Boolean)
    .join(", ");
  const least = withoutUsage ? "at least " : "";
  return `${least}${formatCount(input)} in + ${formatCount(output)} out${more ? ` (${more})` : ""}`;
}

function costOf({ cost, withoutCost, requests }) {
  if (withoutCost === requests) return "unknown";
  return withoutCost ? `at least ${formatDollars(cost)}` : formatDollars(cost);
}

function showError({ data }) {
  if (data.status !== "error" && data.status !== "cancelled") return null;
  const text = data.error ?? data.error_type ?? "";
  return box(`div.problem.${data.status}`, box("b", OUTCOMES[data.status]), showText(text, "pre.text"));
}

/** What to list as inside a span: not its attempts, which are shown already, but what is inside the only one. */
function insideOf(span) {
  const attempts = span.children.filter((child) => child.data.kind === "attempt");
  return span.children.flatMap((child) =>
    child.data.kind !== "attempt" ? [child] : attempts.length === 1 ? child.children : [],
  );
}

function whySilent({ data }) {
  if (data.status === "running") return "It still runs. Recorded with content=True, what is said is shown here as it comes.";
  return "What was said wasn't recorded. Record with content=True to see prompts, answers and reasons here.";
}

/** Everything that is known of a span. `open(span)` shows another one. */
function showDetail(span, open) {
  const { data } = span;
  const kind = KINDS[data.kind] ?? oneLine(data.kind, 20);
  const path = [];
  for (let above = span.parent; above; above = above.parent) path.unshift(above);
  // Where content is recorded, an error has its message.
  const isSilent = span.isRequest && !data.messages && !data.answer && !data.error;
  return [
    box(
      "div.detail-head",
      make("button.back", { type: "button", "aria-label": "Back to the timeline" }, "←"),
      box(
        "div",
        path.length
          ? box(
              "p.path",
              path
                .slice(-4)
                .flatMap((above) => [
                  make("button.link", { type: "button", onclick: () => open(above) }, oneLine(above.name, 30)),
                  " › ",
                ]),
            )
          : null,
        box(
          `h2.${classOfKind(data.kind)}`,
          make("i.mark", { "aria-hidden": "true" }),
          box("span.kind", `${kind} `),
          box("bdi.label", oneLine(labelOf(span), 300)),
          data.is_streaming ? box("span.early", " while streaming") : null,
          drawOutcome(span),
        ),
      ),
    ),
    showFacts(span),
    showError(span),
    showAttempts(span, open),
    showOutcome(span),
    showCheck(span),
    showTool(span),
    showMessages(span),
    showAnswer(span),
    isSilent ? box("p.empty", whySilent(span)) : null,
    showSpans("Uses", span.links, open),
    showSpans("Used by", span.usedBy, open),
    showSpans("Inside", insideOf(span), open),
    box(
      "details.raw",
      box("summary", "All data of this span"),
      showJson({ ...data, messages: undefined, answer: undefined }),
    ),
  ]
    .flat(2)
    .filter(Boolean);
}
