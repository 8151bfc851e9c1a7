"""Pass on values before they exist: two calls that use a first value run at the same time, and a last call uses both.

Run it: uv run docs/examples/lazy_values.py
Needs: the embedded model

The embedded model repeats itself. A bigger model describes the weather and the people, and puts both into a story with
a beginning and an end.
"""

import asyncio
from time import perf_counter
from typing import Literal

import mellea

STARTED = perf_counter()
City = Literal["Bergen", "Lisbon", "Naples", "Porto"]


def say(what: str) -> None:
    print(f"{perf_counter() - STARTED:5.2f} s  {what}", flush=True)


async def report(thunk: mellea.ModelOutputThunk[str], name: str) -> None:
    await thunk
    say(f"{name} is there: {thunk.parsed!r}")


async def diamond(m: mellea.MelleaSession) -> None:
    #        place
    #       /     \
    #   weather  people
    #       \     /
    #        story
    place = await m.ainstruct("Name a city by the sea.", format=City, await_result=False)
    weather = await m.ainstruct(
        "Write one sentence about the weather in {{place}}.", user_variables={"place": place}, await_result=False
    )
    people = await m.ainstruct(
        "Write one sentence about the people of {{place}}.", user_variables={"place": place}, await_result=False
    )
    story = await m.ainstruct(
        "Write two sentences about a visit to this place.",
        grounding_context={"weather": weather, "people": people},
        await_result=False,
    )
    say(f"all four are launched; is the story there? {story.is_computed()}")
    thunks = {"place": place, "weather": weather, "people": people, "story": story}
    await mellea.gather(*[report(thunk, name) for name, thunk in thunks.items()])


async def main() -> None:
    async with mellea.start_session(model_options={"seed": 3, "temperature": 0.3, "max_tokens": 60}) as m:
        await m.ainstruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        say("the model is loaded")
        await diamond(m)

        # Thunks inside of any structure: each is awaited once, and replaced by its typed result.
        number = await m.ainstruct("How many legs has a dog?", format=Literal[2, 4, 6], await_result=False)
        say(f"resolved: {await mellea.resolve({'legs': number, 'twice': [number, number]})}")

        # If a value fails, what depends on it fails, too, and the error's notes say how it got there.
        bad = await m.ainstruct("Name a colour.", format=int, model_options={"max_tokens": 1}, await_result=False)
        end = await m.ainstruct("Praise {{it}}.", user_variables={"it": bad}, await_result=False)
        try:
            await end
        except mellea.MelleaError as error:
            say(f"{type(error).__name__}: {error}")
            print("\n".join(f"         {note}" for note in error.__notes__))


if __name__ == "__main__":
    asyncio.run(main())
