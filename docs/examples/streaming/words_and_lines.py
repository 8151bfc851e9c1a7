"""Show streams in whole words, lines and sentences, and several streams as one.

Run it: uv run docs/examples/streaming/words_and_lines.py
Needs: the embedded model

The embedded model is fast, but what it writes doesn't always make sense. A bigger model writes better and takes longer.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from time import perf_counter

import mellea
from mellea.stdlib.streaming import amerge


async def whole(pieces: AsyncIterable[str], separator: str) -> AsyncIterator[str]:
    """Hold text back until a word (separator " "), a line ("\\n") or a sentence (".") is complete."""
    held = ""
    async for piece in pieces:
        *complete, held = (held + piece).split(separator)
        for part in complete:
            yield part + separator
    if held:
        yield held


async def display(m: mellea.MelleaSession) -> None:
    """A model's pieces are parts of words; a screen reader or a log needs whole words."""
    thunk = await m.ainstruct("Write two lines about rain.", await_result=False)
    print("pieces:", "|".join([piece async for piece in thunk]))
    # A thunk can be read again, by as many readers as you like.
    print("words: ", "|".join([word async for word in whole(thunk, " ")]))
    print("lines: ", [line async for line in whole(thunk, "\n")])


async def together(m: mellea.MelleaSession) -> None:
    """Several streams are read as one: each sentence comes with its label, as soon as it is complete."""
    started = perf_counter()
    topics = ["the moon", "a river", "bread"]
    streams = {topic: whole(m.astream(f"Say something about {topic}."), ".") for topic in topics}
    async with amerge(streams) as merged:
        async for topic, sentence in merged:
            print(f"{perf_counter() - started:4.1f} s  {topic}: {sentence.strip()}", flush=True)


async def main() -> None:
    async with mellea.start_session(model_options={"seed": 1, "temperature": 0.6, "max_tokens": 60}) as m:
        await m.ainstruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        for part in (display, together):
            print(f"\n== {part.__name__}: {part.__doc__}")
            await part(m)


if __name__ == "__main__":
    asyncio.run(main())
