"""Count the tokens that stopping early saves, for the same attempts, checked at their end and while they are written.

Run it: uv run docs/examples/streaming/stopping_early.py
Needs: the embedded model

The embedded model rarely avoids the words, so most attempts fail. A bigger model soon has one that passes, and saves
what its failed attempts would have cost.
"""

import mellea
from mellea import events
from mellea.core import Requirement
from mellea.stdlib.requirements import excludes
from mellea.stdlib.sampling import RejectionSamplingStrategy

TASK = "Write three sentences about the sea."


def count_tokens(m: mellea.MelleaSession, requirement: Requirement) -> list[int]:
    """Count the tokens of each attempt. With the embedded model, each piece of text is one."""
    counts: list[int] = []
    for event in m.stream(TASK, requirements=[requirement], strategy=RejectionSamplingStrategy(loop_budget=4)).events():
        if isinstance(event, events.AttemptStart):
            counts.append(0)
        elif isinstance(event, events.TextDelta):
            counts[-1] += 1
    return counts


def main() -> None:
    on_the_way = excludes("ocean", "vast", "blue", check_only=True)
    at_the_end = Requirement(on_the_way.description, on_the_way.validation_fn, check_only=True)
    with mellea.start_session(model_options={"seed": 1, "temperature": 0.7, "max_tokens": 100}) as m:
        m.instruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        whole, stopped = count_tokens(m, at_the_end), count_tokens(m, on_the_way)
    print(f"checked at the end:  {sum(whole)} tokens in attempts of {whole}")
    print(f"checked on the way:  {sum(stopped)} tokens in attempts of {stopped}")
    print(f"tokens saved:        {sum(whole) - sum(stopped)}")


if __name__ == "__main__":
    main()
