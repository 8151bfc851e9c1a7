"""Handle what happens to streams in real programs: waiting times, failures and deadlines.

Run it: uv run docs/examples/streaming/advanced_streaming.py
Needs: the embedded model

The embedded model is fast, but what it writes doesn't always make sense. A bigger model writes better and takes longer.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter

import mellea
from mellea.errors import DeadlineError, ParseError


@dataclass
class Recipe:
    title: str
    minutes: int
    steps: list[str]


async def waiting(m: mellea.MelleaSession) -> None:
    """Streaming doesn't end sooner than blocking; it begins sooner."""
    prompt = "Explain why the sky is blue."

    started = perf_counter()
    await m.ainstruct(prompt)
    print(f"blocking:  something to read after {perf_counter() - started:.2f} s")

    started = perf_counter()
    thunk = await m.ainstruct(prompt, await_result=False)
    await anext(aiter(thunk))
    first = perf_counter() - started
    await thunk
    print(f"streaming: something to read after {first:.2f} s, everything after {perf_counter() - started:.2f} s")


async def failures(m: mellea.MelleaSession) -> None:
    """Text that had arrived before a failure is shown, and is kept."""
    options = {"max_tokens": 12}  # too few for a whole recipe
    thunk = await m.ainstruct("Write a recipe for soup.", format=Recipe, model_options=options, await_result=False)
    try:
        async for piece in thunk:
            print(piece, end="", flush=True)
    except ParseError as error:
        print(f"\n{type(error).__name__}, and {len(error.partial)} characters are kept in error.partial")


async def deadlines(m: mellea.MelleaSession) -> None:
    """Limit the time of one call, or of any part of the program."""
    # Seconds in total; mellea.Deadlines(first_byte=…, between_bytes=…, total=…) says more.
    options = {"timeout": 0.4, "max_tokens": 500}
    thunk = await m.ainstruct("Tell a long story.", model_options=options, await_result=False)
    try:
        await thunk
    except DeadlineError as error:
        print(f"deadline: {error}\n          it got as far as: …{error.partial[-40:]!r}")

    # Cancelling a call cancels its request. Cancelling the wait for a thunk doesn't, except in `async with thunk:`.
    try:
        async with asyncio.timeout(0.4):
            await m.ainstruct("Tell a long story.", model_options={"max_tokens": 500})
    except TimeoutError:
        print("timeout:  the call was cancelled, and its request with it")


async def main() -> None:
    async with mellea.start_session(model_options={"seed": 1, "temperature": 0.6, "max_tokens": 60}) as m:
        await m.ainstruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        for part in (waiting, failures, deadlines):
            print(f"\n== {part.__name__}: {part.__doc__}")
            await part(m)


if __name__ == "__main__":
    asyncio.run(main())
