"""Fill in a web form while the model still writes: partial objects as server-sent events.

Run it: uv run --group web uvicorn --app-dir docs/examples/web form:app
Needs: fastapi, uvicorn and the embedded model

Then open http://127.0.0.1:8000/ in a browser, or: curl -N 'http://127.0.0.1:8000/fill?wish=a+room+by+the+sea'

The page only knows the names of the fields, which it gets from the type. The embedded model invents most of what it
fills in; a bigger one takes it from the wish.
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Literal, TypedDict

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import Field

import mellea


class Booking(TypedDict):
    name: Annotated[str, Field(max_length=20)]
    room: Literal["single", "double", "suite"]
    nights: Annotated[int, Field(ge=1, le=14)]
    note: Annotated[str, Field(max_length=80)]


app = FastAPI()
m = mellea.start_session(model_options={"max_tokens": 120})


@app.get("/")
async def show_form() -> HTMLResponse:
    fields = "".join(f'<label>{name} <input name="{name}" readonly></label>' for name in Booking.__annotations__)
    return HTMLResponse(PAGE.replace("FIELDS", fields))


@app.get("/fill")
async def fill(wish: str) -> StreamingResponse:
    # The wish is a value, so braces in it are braces.
    stream = m.astream("Fill in a booking for this guest.", input=wish, format=Booking)

    async def events() -> AsyncIterator[str]:
        async with stream:  # a browser that leaves ends the model's work
            async for partial in stream.partials():
                yield f"data: {json.dumps({'writing': partial.path, 'data': partial.data})}\n\n"
        yield "event: done\ndata: {}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>A form</title>
<style>
  :root { color-scheme: light dark } body { font: 1rem system-ui; max-width: 30rem; margin: 2rem auto; padding: 0 1rem }
  label { display: block; margin: .5rem 0 } input { font: inherit; width: 100% } .writing { outline: 2px solid orange }
</style>
<form id="ask"><label>wish <input name="wish" value="a room for three nights"></label><button>Fill in</button></form>
<hr><form id="booking">FIELDS</form>
<script>
ask.onsubmit = (event) => {
  event.preventDefault();
  booking.reset();
  const source = new EventSource('/fill?' + new URLSearchParams(new FormData(ask)));
  source.onmessage = ({data}) => {
    const {writing, data: known} = JSON.parse(data);
    for (const field of booking.elements) {
      field.value = known?.[field.name] ?? '';
      field.classList.toggle('writing', field.name === writing);
    }
  };
  source.addEventListener('done', () => source.close());
  source.onerror = () => source.close();  // else it would ask again
};
</script></html>"""
