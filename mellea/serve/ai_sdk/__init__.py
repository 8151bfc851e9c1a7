"""The UI message stream of Vercel's AI SDK, versions 5, 6 and 7: what its clients send and read."""

# May import: `serve.response` and what is below. Read `ui_stream.py` first, for the stream; then `messages.py`, for
# what comes from clients.

__all__: list[str] = []
