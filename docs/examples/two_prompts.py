"""Compare two prompts on the same cases: which is better, and how certain that is.

Run it: uv run docs/examples/two_prompts.py
Needs: the embedded model

A bigger model does well with both prompts. The report then can't tell which is better, and you need harder cases.
"""

from typing import Literal

import mellea
from mellea.evaluation import Evaluation

Mood = Literal["good", "bad"]


@mellea.generative(model_options={"max_tokens": 12, "temperature": 0})
def polite(review: str) -> Mood:
    """A customer wrote this review of a product. Say "good" if the customer is happy with it, "bad" if not."""
    ...


@mellea.generative(model_options={"max_tokens": 12, "temperature": 0})
def plain(review: str) -> Mood:
    """Classify the sentiment of the review as good or bad."""
    ...


GOOD = [
    "I love it, I use it every day.",
    "Works perfectly, and the battery lasts for a week.",
    "Great value, my whole family is happy with it.",
    "The best kettle that I have ever had.",
    "It arrived early and looks beautiful.",
    "Very comfortable shoes, I would buy them again.",
    "Excellent sound, and so easy to set up.",
    "My daughter smiled all day. Thank you!",
    "Five stars. It does exactly what it says.",
    "Better than I hoped, I recommend it to everyone.",
    "Simple, quiet and fast. A pleasure to use.",
    "The colours are wonderful, and it was cheap.",
]
BAD = [
    "It broke after two days.",
    "A waste of money, I want a refund.",
    "The worst headphones that I have ever had.",
    "It arrived late, and the box was empty.",
    "It smells terrible, and the colour is wrong.",
    "Far too loud. I can't sleep.",
    "The screen cracked in the first week.",
    "I regret that I bought it.",
    "Cheap plastic, it fell apart at once.",
    "Nobody answers my complaints. Never again.",
    "The shoes hurt, and they are ugly.",
    "One star. It never worked.",
]


CASES = [(review, "good") for review in GOOD] + [(review, "bad") for review in BAD]
TWO_PROMPTS = Evaluation([polite, plain], CASES, name="Two prompts")  # for `mellea eval docs/examples/two_prompts.py`


def main() -> None:
    report = TWO_PROMPTS.run(concurrency=4)
    print(report)
    comparison = report.compare()
    found = comparison.difference
    print(f"\nThe difference is {found.estimate:+.0%}, and lies between {found.low:+.0%} and {found.high:+.0%}.")
    print(f"Use {comparison.winner!r}." if comparison.winner else "Take either, or more cases.")


if __name__ == "__main__":
    main()
