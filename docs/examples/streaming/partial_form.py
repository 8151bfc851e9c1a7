"""Print a form line by line while a model fills it in.

Run it: uv run docs/examples/streaming/partial_form.py
Needs: the embedded model

The embedded model fills every field with a valid value, but these don't always make sense. A bigger model invents a
consistent booking. `form_at_a_terminal.py` draws the same form.
"""

from time import perf_counter
from typing import Annotated, Any, Literal, TypedDict

from pydantic import Field

import mellea
from mellea.stdlib.streaming import HoldBack


class Guest(TypedDict):
    name: Annotated[str, Field(max_length=30)]
    email: Annotated[str, Field(max_length=40), HoldBack()]  # nobody wants to watch an address grow


class Booking(TypedDict):
    guest: Guest
    room: Literal["single", "double", "suite"]
    nights: Annotated[int, Field(ge=1, le=30)]
    breakfast: bool
    wishes: Annotated[list[Annotated[str, Field(max_length=30)]], Field(min_length=1, max_length=3)]
    note: Annotated[str, Field(max_length=160)]


def start_stream(m: mellea.MelleaSession) -> Any:
    return m.stream("Invent a booking at a hotel by the sea. Its note has two sentences.", format=Booking)


def main() -> None:
    with mellea.start_session(model_options={"seed": 7, "temperature": 0.3, "max_tokens": 300}) as m:
        m.instruct("Say hello.", model_options={"max_tokens": 1})  # loads the model
        started = perf_counter()
        stream = start_stream(m)
        place = ""
        for partial in stream.partials():
            # Texts are printed as they grow, numbers and choices once they are known.
            new = partial.data[partial.path] if partial.path in ("room", "nights", "breakfast") else partial.text
            if new not in ("", None) and partial.path != place:
                place = partial.path
                print(f"\n{place}: ", end="")
            print(new, end="", flush=True)
        room, nights = stream.output["room"], stream.output["nights"]
        print(f"\n\nAfter {perf_counter() - started:.1f} s: a {room} for {nights} night(s).")


if __name__ == "__main__":
    main()
