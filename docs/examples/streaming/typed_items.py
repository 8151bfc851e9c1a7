"""Print the people in a list, each as soon as it is complete, while a model still writes the list.

Run it: uv run docs/examples/streaming/typed_items.py
Needs: the embedded model

The embedded model invents people who resemble one another. A bigger model invents different ones.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, TypedDict

from pydantic import Field

import mellea
from mellea import command, generative

# The embedded model is very small. Limits in the types keep it from going on and on.
Name = Annotated[str, Field(min_length=2, max_length=25)]
Email = Annotated[str, Field(min_length=6, max_length=40)]


@dataclass
class Person:
    name: Name
    email: Email


class Contact(TypedDict):
    name: Name
    email: Email


@command(output=Annotated[list[Person], Field(min_length=3, max_length=5)])
def find_people(query: str) -> str:
    """The body returns the prompt."""
    return f"Invent five people who come to this event, with their e-mail addresses: {query}"


@generative
async def find_contacts(query: str) -> Annotated[list[Contact], Field(min_length=3, max_length=5)]:
    """Invent five people who come to the event, with their e-mail addresses."""
    ...


def plain() -> None:
    """`for`, and each item is an instance of a dataclass."""
    started = perf_counter()
    for person in find_people.stream("kaggle meetup in LA"):
        print(f"{perf_counter() - started:5.2f} s  {person}", flush=True)
    print(f"{perf_counter() - started:5.2f} s  that was all")


async def asynchronous() -> None:
    """`async for`, and each item is a dict of the TypedDict's form."""
    started = perf_counter()
    stream = find_contacts.astream("kaggle meetup in LA")
    async for contact in stream:
        print(f"{perf_counter() - started:5.2f} s  {contact['name']} <{contact['email']}>", flush=True)
    print(f"{perf_counter() - started:5.2f} s  that was all: {len(stream.output)} contacts in {len(stream.text)} bytes")


def main() -> None:
    with mellea.start_session(model_options={"seed": 6, "temperature": 0.7, "max_tokens": 400}) as m:
        m.instruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        print(f"== {plain.__doc__}")
        plain()
        print(f"\n== {asynchronous.__doc__}")
        asyncio.run(asynchronous())


if __name__ == "__main__":
    main()
