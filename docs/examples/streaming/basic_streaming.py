"""Print a story, piece by piece, while a model writes it.

Run it: uv run docs/examples/streaming/basic_streaming.py
Needs: the embedded model

The embedded model soon loses the thread of its story. A bigger model tells one that has an end.
"""

import asyncio
from time import perf_counter

import mellea


async def main() -> None:
    m = mellea.start_session(model_options={"seed": 1, "temperature": 0.6, "max_tokens": 250, "stop": "\n\n"})
    started = perf_counter()
    story = await m.ainstruct("Tell a bedtime story about a lighthouse keeper and a lost whale.", await_result=False)

    shown = 0
    arrivals: list[float] = []
    while not story.is_computed():
        text = await story.astream()  # all of the text so far
        if len(text) > shown:
            arrivals.append(perf_counter() - started)
            print(text[shown:], end="", flush=True)
            shown = len(text)

    total = perf_counter() - started
    print(f"\n\n{len(arrivals)} pieces: the first after {arrivals[0]:.1f} s, all of them after {total:.1f} s.")


if __name__ == "__main__":
    asyncio.run(main())
