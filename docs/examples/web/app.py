"""Stream what a model writes to a browser; the web application has its own page.

Run it: uv run --group web uvicorn --app-dir docs/examples/web app:app
Needs: fastapi, uvicorn and the embedded model

Then open http://127.0.0.1:8000/ in a browser, or:

    curl -N 'http://127.0.0.1:8000/generate?topic=the+sea'

The embedded model's texts are short and make little sense. A bigger model writes about the topic.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

import mellea
from mellea import serve

app = FastAPI()
m = mellea.start_session()
page = Path(__file__).with_name("page.html")


@app.get("/")
async def show_page() -> FileResponse:
    return FileResponse(page)


@app.get("/generate")
async def generate(topic: str) -> serve.StreamResponse:
    """The text, as it is written. When the client leaves, the model stops."""
    return serve.text(m.astream(f"Write three sentences about {topic}."))


@app.get("/events")
async def events(topic: str) -> serve.StreamResponse:
    """Every event, as JSON in server-sent events: for EventSource, and for programs."""
    return serve.sse(m.astream(f"Write three sentences about {topic}."))


# What useChat of the AI SDK talks to, and page.html as well.
chat = serve.Chat(m)
app.add_route("/api/chat", chat, methods=["POST"])
app.add_route("/api/chat/{id}/stream", chat, methods=["GET", "DELETE"])
