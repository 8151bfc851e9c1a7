"""`mellea.serve.chat_page(…)`: a page for people, over the UI message stream of a `Chat`.

The page is one document with style and scripts, and its policy allows nothing else, neither scripts nor images. A
model's output is only ever text in it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from string import Template

from mellea.errors import UsageError
from mellea.serve.response import FixedResponse

__all__ = ["chat_page"]

_SCRIPTS = ("stream.js", "markdown.js", "views.js", "chat.js")


def chat_page(
    title: str = "Chat", *, api: str = "/api/chat", programs: Sequence[str] = (), needs_key: bool = False
) -> FixedResponse:
    """Make a response with the chat page. The `Chat` that it talks to has `version=7`, so that attempts are shown live.

    Args:
        title: the heading.
        api: the path of the `Chat`, on the same server.
        programs: names to choose from, if there are several; the chosen one is `model` in the request's `extra`.
        needs_key: whether to ask for a key when the server answers 401; it is sent as `Authorization: Bearer …`.

    Raises:
        UsageError: the path isn't on this server.
    """
    # Browsers interpret `//host` and `\\host` as another server, which would get the user's key.
    if not api.startswith("/") or api.startswith("//") or "\\" in api:
        raise UsageError(f"api takes a path of this server, such as '/api/chat', not {api!r}")
    # One script, whose hash in the policy has to match exactly.
    style, script = _read("page.css"), "\n".join(['"use strict";', *map(_read, _SCRIPTS)])
    config = json.dumps({"api": api, "programs": list(programs), "needs_key": needs_key})
    page = Template(_read("page.html")).substitute(
        title=html.escape(title),
        style=style,
        # Otherwise `</script>` in a program's name would end the script.
        script=script,
        config=config.replace("<", "\\u003c"),
    )
    policy = "; ".join(
        [
            "default-src 'none'",
            "connect-src 'self'",
            # A model's output can't fetch anything: an image's URL could leak the conversation.
            "img-src data:",
            # By hash, not `unsafe-inline`: injected styles and scripts don't run.
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return FixedResponse(200, page.encode(), "text/html; charset=utf-8", headers)


# Files of the package don't change while the server runs.
@functools.cache
def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
