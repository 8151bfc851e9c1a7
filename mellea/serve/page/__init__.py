"""The chat page: one HTML document that talks to a `Chat`, without anything from elsewhere."""

# May import: `serve.response`. Read `render.py` first; the page itself is `page.html`, `page.css` and the scripts.

__all__: list[str] = []
