"""The chat page as a document; `tests/web/test_chat_page.py` uses it in a browser."""

from __future__ import annotations

import pytest

from mellea import serve
from mellea.errors import UsageError
from tests.serve.asgi import ask


@pytest.mark.anyio
async def test_the_page_is_one_document() -> None:
    answer = await ask(serve.chat_page("Kitchen helper", api="/chat", programs=["a", "b"], needs_key=True))
    page = answer.body.decode()
    assert answer.status == 200 and answer.headers["content-length"] == str(len(answer.body))
    assert '{"api": "/chat", "programs": ["a", "b"], "needs_key": true}' in page
    assert "<title>Kitchen helper</title>" in page and "class MessageFold" in page and "$" + "title" not in page
    assert all(mark not in page for mark in (" src=", "<link", "@import", "url(", "innerHTML", "eval("))


@pytest.mark.parametrize("api", ["api/chat", "//other.test/api", "https://other.test", "/\\other", ""])
def test_the_page_talks_to_its_own_server_alone(api: str) -> None:
    with pytest.raises(UsageError, match="path of this server"):
        serve.chat_page(api=api)


def test_a_title_is_text() -> None:
    page = serve.chat_page("<b>&", programs=["</script><b>"]).body.decode()
    assert "<h1>&lt;b&gt;&amp;</h1>" in page and "</script><b>" not in page
