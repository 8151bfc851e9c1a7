"""Let a small model try to write a report that meets requirements, and a bigger one repair its failures.

Run it: uv run docs/examples/report.py
Needs: the embedded model

The requirements are checked by plain Python, so no other model judges. The embedded model only copies the figures, so
the bigger one gets its best attempt, with what is wrong with it. Here a script stands in for the bigger model; in your
program it is `get_backend("openai/…")`, and it is asked only where the small one fails.
"""

import re

import mellea
from mellea.stdlib.requirements import length, req, simple_validate
from mellea.stdlib.sampling import SOFAIStrategy
from mellea.testing import ScriptedBackend

ORDERS = "Bergen: 310 orders in 2025, 402 in 2026. Porto: 96 orders in 2025, 240 in 2026."
BIGGER = ScriptedBackend("Porto grew most, from 96 orders in 2025 to 240 in 2026. Bergen went from 310 to 402.")


def has_no_figure_of_its_own(text: str) -> tuple[bool, str]:
    own = sorted(set(re.findall(r"\d+", text)) - set(re.findall(r"\d+", ORDERS)))
    return not own, f"These figures are not in the table: {', '.join(own)}."


def begins_with_best(text: str) -> tuple[bool, str]:
    return text.lstrip().startswith("Porto"), "It has to begin with Porto."


def main() -> None:
    with mellea.start_session(model_options={"max_tokens": 60, "seed": 1}) as m:
        report = m.instruct(
            "Write a report of two sentences on the orders of our two shops.",
            input=ORDERS,
            requirements=[
                length("words", max=45),
                req("Use no other figures.", validation_fn=simple_validate(has_no_figure_of_its_own)),
                req("Begin with the shop that grew most.", validation_fn=simple_validate(begins_with_best)),
            ],
            strategy=SOFAIStrategy(BIGGER, loop_budget=2, handover="repair"),
        )
    for attempt in report.sampling.attempts:
        print(f"attempt {attempt.number}: {attempt.output.value}")
        for requirement, result in attempt.validations:
            print(f"  {'met   ' if result else 'failed'} {requirement}{'' if result else f'  {result.reason}'}")
    print("The bigger model was told:", "It has to begin with Porto." in BIGGER.prompts[0])


if __name__ == "__main__":
    main()
