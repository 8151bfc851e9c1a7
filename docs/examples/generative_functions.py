"""Define functions that a model answers: the docstring is the prompt, the annotations are the type of the answer.

Run it: uv run docs/examples/generative_functions.py
Needs: the embedded model

The embedded model tells praise from complaints and writes poor replies. A bigger model apologises for what happened,
and gives each complaint a title and an urgency of its own.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

import mellea
from mellea import ask, command, generative
from mellea.core import Context
from mellea.errors import RequirementError
from mellea.stdlib.requirements import check, simple_validate


@generative(model_options={"temperature": 0})
def sentiment(review: str) -> Literal["positive", "negative"]:
    """Classify the sentiment of the review.

    Args:
        review: what a customer wrote about a product.
    """
    ...


@dataclass
class Ticket:
    title: Annotated[str, Field(max_length=60)]
    urgency: Annotated[int, Field(ge=1, le=5)]


def says_something(context: Context) -> tuple[bool, str]:
    """A precondition reads the arguments from the last output: by name in `parsed`, or as text."""
    arguments = context.last_output()
    return arguments is not None and len(arguments.parsed["complaint"]) > 10, "it is too short"


@generative(
    preconditions=[check("a complaint", validation_fn=says_something)],
    requirements=[check("a title", validation_fn=simple_validate(lambda text: '"title": ""' not in text))],
)
def ticket(complaint: str) -> Ticket:
    """Make a ticket for the support team out of the complaint."""
    ...


@command
def answer(review: str) -> str:
    # This body runs: it may decide anything before it returns the prompt, and call other such functions.
    opening = "Thank" if sentiment(review) == "positive" else "Apologise to"
    return f"{opening} the customer in one sentence. The customer wrote: {review}"


def main() -> None:
    reviews = ["I love this kettle, it is quiet and quick.", "It broke after two days and nobody answers my mails."]
    with mellea.start_session(model_options={"seed": 1, "temperature": 0.5, "max_tokens": 80}):
        for review in reviews:
            print(f"\n{review}\n  {sentiment(review)}; {ticket(review)}")
            print("  ", end="")
            for piece in answer.stream(review):
                print(piece.replace("\n", " "), end="", flush=True)
            print()

        try:
            ticket("Hm.")
        except RequirementError as error:
            print(f"\nNo model was asked: {error}")

        print("\nAn int in one line:", ask("How many legs has a spider?", format=Annotated[int, Field(ge=0, le=100)]))


if __name__ == "__main__":
    main()
