"""How well the embedded model does small tasks, and whether its answers end: `python -m benchmarks.embedded_tasks`.

It uses the defaults of the model but for the temperature, which is 0, so that the numbers are the same each time. It
exits 1 where they are worse than what the defaults were chosen for.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Any, Literal

import mellea
from mellea import MelleaSession, generative

GOOD = (
    "I love it!",
    "I love this kettle, it is quiet and quick.",
    "Great product, works well.",
    "The best phone I have ever had.",
    "Wonderful service, friendly staff.",
    "Very happy with it.",
    "Excellent quality.",
    "My children adore it.",
    "It arrived early and works perfectly.",
    "Highly recommended!",
)
BAD = (
    "I hate it.",
    "It broke after two days and nobody answers my mails.",
    "Terrible, a waste of money.",
    "The worst phone I have ever had.",
    "Awful service, rude staff.",
    "Very disappointed.",
    "Poor quality.",
    "My children were bored by it.",
    "It arrived late and does not work.",
    "Don't buy this!",
)
FACTS = {
    "What is the capital of France?": ("paris",),
    "What is the capital of Japan?": ("tokyo",),
    "What is the capital of Italy?": ("rome",),
    "What is 2 + 2?": ("4", "four"),
    "What colour is the sky?": ("blue",),
    "What is the opposite of hot?": ("cold",),
    "How many days has a week?": ("seven", "7"),
    "Which animal says meow?": ("cat",),
    "What do bees make?": ("honey",),
    "Who wrote Hamlet?": ("shakespeare",),
}
OPEN = (
    "Tell me a story about a dog.",
    "Write a short email inviting Anna to lunch.",
    "Write a poem about the sea.",
    "Give me some names for a cat.",
)


@dataclass
class Person:
    name: str
    biography: str


TYPED: dict[str, object] = {
    "Write about Ada Lovelace.": Person,
    "List names for a cat.": list[str],
    "Invent some people.": list[Person],
}
MAX_TOKENS = 1024
"""The limit of an answer where nobody gives one."""


@generative
async def sentiment(review: str) -> Literal["positive", "negative"]:
    """Classify the sentiment of the review."""


async def classified(m: MelleaSession, reviews: tuple[str, ...], wanted: str) -> int:
    answers = await asyncio.gather(*[sentiment(m, review=review) for review in reviews])
    return sum(answer == wanted for answer in answers)


async def known(m: MelleaSession) -> int:
    answers = await asyncio.gather(*[m.ainstruct(question, model_options={"max_tokens": 30}) for question in FACTS])
    pairs = zip(answers, FACTS.values(), strict=True)
    return sum(any(word in str(answer.value).lower() for word in words) for answer, words in pairs)


async def ended(m: MelleaSession) -> int:
    """Count the open answers that end by themselves, before the limit of 1,024 tokens."""
    answers = await asyncio.gather(*[m.ainstruct(prompt) for prompt in OPEN])
    return sum((answer.usage.output_tokens or 0) < MAX_TOKENS for answer in answers if answer.usage is not None)


async def typed(m: MelleaSession) -> int:
    async def is_right(prompt: str, kind: Any) -> bool:
        try:
            await m.ainstruct(prompt, format=kind, strategy=None)
        except mellea.MelleaError as error:
            print(f"{prompt} {kind}: {str(error)[:200]}")
            return False
        return True

    return sum(await asyncio.gather(*[is_right(prompt, kind) for prompt, kind in TYPED.items()]))


async def main() -> int:
    async with mellea.start_session(model_options={"temperature": 0}) as m:
        results = (
            ("good reviews that are called so", await classified(m, GOOD, "positive"), len(GOOD), 7),
            ("bad reviews that are called so", await classified(m, BAD, "negative"), len(BAD), 9),
            ("facts that are right", await known(m), len(FACTS), 9),
            ("open answers that end", await ended(m), len(OPEN), len(OPEN)),
            ("typed answers that end and are valid", await typed(m), len(TYPED), len(TYPED)),
        )
    for name, count, of, wanted in results:
        print(f"{name:40} {count:2} of {of:2}, wanted {wanted:2}   {'ok' if count >= wanted else 'TOO FEW'}")
    return int(any(count < wanted for _, count, _, wanted in results))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
