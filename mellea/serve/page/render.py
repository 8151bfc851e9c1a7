"""`mellea.serve.chat_page(…)`: a page for people, over the UI message stream of a `Chat`.

The page is one document: style and scripts are in it, and its policy lets in nothing else, neither scripts nor images
from elsewhere. What a model writes is only ever text in it.
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
        title: what is at the top.
        api: the path of the `Chat`, on the same server.
        programs: names to choose from, if there are several; the chosen one is `model` in the request's `extra`.
        needs_key: whether to ask for a key when the server answers 401; it is sent as `Authorization: Bearer …`.

    Raises:
        UsageError: the path isn't one of this server.
    """
    # A browser takes `//host` and `\\host` for another server, which would get the user's key.
    if not api.startswith("/") or api.startswith("//") or "\\" in api:
        raise UsageError(f"api takes a path of this server, such as '/api/chat', not {api!r}")
    # One script, since its hash in the policy has to be that of exactly what is in the page.
    style, script = _read("page.css"), "\n".join(['"use strict";', *map(_read, _SCRIPTS)])
    config = json.dumps({"api": api, "programs": list(programs), "needs_key": needs_key})
    page = Template(_read("page.html")).substitute(
        title=html.escape(title),
        style=style,
        # Else `</script>` in a program's name would end the script.
        script=script,
        config=config.replace("<", "\\u003c"),
    )
    policy = "; ".join(
        [
            "default-src 'none'",
            "connect-src 'self'",
            # What a model writes can't fetch anything: an image's address could carry the conversation away.
            "img-src data:",
            # By hash and not `unsafe-inline`: a style or script that gets into the page in any other way doesn't run.
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
