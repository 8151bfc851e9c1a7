// While a run is recorded its page asks for what has changed since it last asked, and for nothing else.

const REST_SECONDS = 0.5;
const MOST_REST_SECONDS = 10;

/** Ask again and again until the run is over. `take(changes)` is given what is new, `tell(state)` whether it works. */
async function follow(address, run, take, tell) {
  let rest = REST_SECONDS;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, rest * 1000));
    try {
      const changes = await ask(address, run);
      rest = REST_SECONDS;
      if (changes.spans.length) take(changes);
      tell(run.isRunning || !run.spans.length ? "live" : "over");
      if (run.spans.length && !run.isRunning) return;
    } catch (error) {
      console.warn("the recorder of this run can't be reached", error);
      rest = Math.min(rest * 2, MOST_REST_SECONDS);
      tell("lost");
    }
  }
}

/** What is known here says what is news: spans with higher ids, and those that ran when they were last seen, if they
    have ended or more of their text has come. */
async function ask(address, run) {
  const known = { last: 0, running: {} };
  for (const span of run.spans) {
    known.last = Math.max(known.last, span.id);
    if (span.data.status === "running") known.running[span.id] = charactersOf(span);
  }
  const which = run.spans[0]?.data.run ?? "";
  const answer = await fetch(`${address}?run=${which}`, {
    method: "POST",
    body: JSON.stringify(known),
    cache: "no-store",
  });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

function charactersOf(span) {
  return (span.data.chunks ?? []).reduce((sum, [, length]) => sum + length, 0);
}
