"""Trace a stream and a checked answer: which calls there were, in which order, how long they took and what they cost.

Run it: uv run docs/examples/tracing.py
Needs: the embedded model

With a bigger model the tree is the same, with other times and, if it runs at a provider, with a cost.
"""

import mellea
from mellea.stdlib.requirements import check, simple_validate


@mellea.trace
def stream_answer(m: mellea.MelleaSession, question: str) -> str:
    answer = ""
    for chunk in m.stream(question, name="answer_question"):
        print(chunk, end="", flush=True)
        answer += chunk
    print()
    return answer


@mellea.trace
def describe(m: mellea.MelleaSession, city: str) -> str:
    is_short = check("is short", validation_fn=simple_validate(lambda text: (len(text) < 200, "it is too long")))
    return str(m.instruct(f"Describe {city} in one sentence.", name="describe", requirements=[is_short]))


def main() -> None:
    m = mellea.start_session(model_options={"max_tokens": 60})
    with mellea.traces.start("travel") as t:
        stream_answer(m, "What is the capital of France?")
        describe(m, "Paris")
    print()
    print(t.tree())
    print(f"{len(t.spans)} spans; it cost {t.cost} dollars.")


if __name__ == "__main__":
    main()
