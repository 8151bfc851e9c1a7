"""A diamond of values that don't exist yet: two halves that run at the same time, and one end that waits for both.

Run it: uv run docs/examples/lazy_values.py
Needs: the embedded model

The embedded model describes one place three times. A bigger model names a place, says how the weather is and who
lives there, and puts both into the story.
"""

import asyncio
from time import perf_counter
from typing import Literal

import mellea

STARTED = perf_counter()


def say(what: str) -> None:
    print(f"{perf_counter() - STARTED:5.2f} s  {what}", flush=True)


async def told(thunk: mellea.ModelOutputThunk[str], name: str) -> None:
    await thunk
    usage = thunk.usage
    say(f"{name} is there, {usage.output_tokens if usage else '?'} tokens: {' '.join((thunk.value or '').split())!r}")


async def diamond(m: mellea.MelleaSession) -> mellea.ModelOutputThunk[str]:
    #        place
    #       /     \
    #   weather  people
    #       \     /
    #        story
    place = await m.ainstruct("Name a place by the sea. Answer with its name only.", await_result=False)
    weather = await m.ainstruct(
        "Say in one sentence how the weather is in {{place}}.", user_variables={"place": place}, await_result=False
    )
    people = await m.ainstruct(
        "Say in one sentence who lives in {{place}}.", user_variables={"place": place}, await_result=False
    )
    story = await m.ainstruct(
        "Tell a story of two sentences.", grounding_context={"weather": weather, "people": people}, await_result=False
    )
    say(f"all four are launched; is the story there? {story.is_computed()}")
    await mellea.gather(told(place, "place"), told(weather, "weather"), told(people, "people"), told(story, "story"))
    return story


async def main() -> None:
    async with mellea.start_session(model_options={"seed": 2, "temperature": 0.6, "max_tokens": 40}) as m:
        await m.ainstruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        say("the model is loaded")
        await diamond(m)

        # Inside any structure: each thunk is waited for once, and its typed result takes its place.
        number = await m.ainstruct("How many legs has a dog?", format=Literal[2, 4, 6], await_result=False)
        say(f"resolved: {await mellea.resolve({'legs': number, 'twice': [number, number]})}")

        # An ingredient that fails fails what depends on it, and the error says by which way it came.
        bad = await m.ainstruct("Name a colour.", format=int, model_options={"max_tokens": 1}, await_result=False)
        end = await m.ainstruct("Praise {{it}}.", user_variables={"it": bad}, await_result=False)
        try:
            await end
        except mellea.MelleaError as error:
            say(f"{type(error).__name__}: {error}")
            print("\n".join(f"         {note}" for note in error.__notes__))


if __name__ == "__main__":
    asyncio.run(main())
