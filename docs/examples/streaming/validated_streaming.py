"""Check an answer while it is being written: a bad attempt is stopped at once, and another one begins.

Run it: uv run docs/examples/streaming/validated_streaming.py
Needs: the embedded model

The embedded model often uses the word again although it was told not to, so it needs many attempts. A bigger model
avoids it in the second one.
"""

from time import perf_counter

import mellea
from mellea import events
from mellea.errors import RequirementError
from mellea.stdlib.requirements import excludes
from mellea.stdlib.sampling import RejectionSamplingStrategy, RepairTemplateStrategy

TASK = "Write three sentences about bread."


def repaired(m: mellea.MelleaSession) -> None:
    """A forbidden word ends an attempt, and the next prompt says why. The events show everything."""
    stream = m.stream(
        TASK,
        # It looks at every word. With `check_only` it isn't part of the first prompt.
        requirements=[excludes("delicious", check_only=True)],
        strategy=RepairTemplateStrategy(loop_budget=4),
    )
    for event in stream.events():
        match event:
            case events.AttemptStart(number):
                print(f"attempt {number}: ", end="")
            case events.TextDelta(chunk):
                print(chunk.replace("\n", " "), end="", flush=True)
            case events.AttemptRejected(_, requirement, reason):
                print(f"\n  stopped: {requirement} ({reason})")
            case events.AttemptAccepted(number, is_valid):
                print(f"\n  taken: attempt {number}" if is_valid else "  none passed, so the last one is taken")
    print(f"A plain loop would have printed only {stream.text[:30]!r}…")


def released(m: mellea.MelleaSession) -> None:
    """With release="sentence", a sentence that passes is shown and stays; the next attempt continues from there."""
    stream = m.stream(
        TASK,
        requirements=[excludes("delicious", scope="sentence", check_only=True)],
        strategy=RejectionSamplingStrategy(loop_budget=10),
        release="sentence",
    )
    started = perf_counter()
    try:
        for text in stream:
            print(f"{perf_counter() - started:5.2f} s  {text.strip()}", flush=True)
        print(f"{perf_counter() - started:5.2f} s  the end, in attempt {len(stream.attempts)}")
    except RequirementError as error:  # ten attempts weren't enough; the sentences above have passed all the same
        print(f"{perf_counter() - started:5.2f} s  no end after {len(stream.attempts)} attempts: {error}")


def main() -> None:
    with mellea.start_session(model_options={"seed": 3, "temperature": 0.8, "max_tokens": 100}) as m:
        m.instruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        for part in (repaired, released):
            print(f"\n== {part.__name__}: {part.__doc__}")
            part(m)


if __name__ == "__main__":
    main()
