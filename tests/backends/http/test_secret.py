"""Keys: where they may not be, what can't be sent, and what a pickled backend holds."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from mellea.backends.openai import OpenAIBackend
from mellea.core.masking import hide_keys, is_sensitive
from mellea.errors import ConfigurationError, MelleaError, UsageError
from tests.backends.http.misbehaving import END, LAST, OK, Connection, chunk, misbehaving, text
from tests.backends.http.tiny import TinyBackend, request

SECRETS = {
    "api_key": "sk-key-in-argument",
    "password": "password-in-url",
    "query": "key-in-query-1",
    "header": "key-in-header-1",
    "body": "key-in-body-1",
    "deep": "key-in-deep-body",
    "option": "key-in-options-1",
}


def backend(**more: Any) -> OpenAIBackend:
    return OpenAIBackend(
        "m",
        base_url=f"http://user:{SECRETS['password']}@h/v1?sig={SECRETS['query']}",
        headers={"x-api-key": SECRETS["header"], "x-team": "blue"},
        extra_body={"token": SECRETS["body"], "a": [{"authorization": SECRETS["deep"]}], "n": 1},
        model_options={"extra_headers": {"cookie": SECRETS["option"]}, "temperature": 0.5},
        **{"api_key": SECRETS["api_key"], **more},
    )


def test_a_pickled_backend_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    data = pickle.dumps(backend())
    assert not [name for name, secret in SECRETS.items() if secret.encode() in data]
    twin = pickle.loads(data)
    assert (twin.model_id, twin.base_url, twin.model_options["temperature"]) == ("m", "http://h/v1", 0.5)
    with pytest.raises(ConfigurationError, match=r"api_key=.*base_url=.*headers=.*extra_body=.*OPENAI_API_KEY"):
        twin.check_access()


def test_a_key_that_stands_in_a_field_of_another_name_isnt_pickled_either() -> None:
    key = "sk-1234567890abcdef"
    held = TinyBackend(
        "m", base_url="http://h/v1", api_key=key, headers={"x-route": f"for {key}"}, extra_body={"user": {"ref": [key]}}
    )
    assert key.encode() not in pickle.dumps(held)


@pytest.mark.anyio
async def test_an_unpickled_backend_takes_the_key_of_its_environment(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def good(connection: Connection) -> None:
        connection.send(OK, chunk(text("well")), chunk(END), LAST)

    with misbehaving(good) as server:
        data = pickle.dumps(TinyBackend("m", base_url=server.url, api_key="the-old-key"))
        with pytest.raises(ConfigurationError, match="TINY_API_KEY"):
            [event async for event in pickle.loads(data).run(request())]
        monkeypatch.setenv("TINY_API_KEY", "the-new-key")
        twin = pickle.loads(data)
        assert [event async for event in twin.run(request())]
        await twin.aclose()
        assert server.requests[0][1]["authorization"] == "Bearer the-new-key"


def test_a_backend_without_a_key_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-somebody-else")
    twin = pickle.loads(pickle.dumps(OpenAIBackend("m", base_url="http://h/v1", api_key="")))
    twin.check_access()
    assert twin.api_key is None


def test_a_copy_keeps_its_key() -> None:
    for twin in (copy.copy(backend()), copy.deepcopy(backend())):
        assert twin.api_key == SECRETS["api_key"]
        twin.check_access()


@pytest.mark.parametrize(
    "name", ["transfer-encoding", "Content-Length", "CONNECTION", "upgrade", "te", "trailer", "expect", "keep-alive"]
)
def test_headers_of_the_connection_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="set by the connection"):
        TinyBackend("m", base_url="http://h", headers={name: "chunked"})


@pytest.mark.parametrize("value", ["a\nb", "a\r\nx: y", "a\0b", "ключ", "\x1b[2J"])
def test_no_header_is_smuggled_in_a_value(value: str) -> None:
    with pytest.raises(MelleaError, match="x-api-key") as caught:
        TinyBackend("m", base_url="http://h", headers={"x-api-key": value})
    assert value not in str(caught.value)
    with pytest.raises(MelleaError, match="authorization"):
        TinyBackend("m", base_url="http://h", api_key=value).check_access()


def test_what_counts_as_a_key() -> None:
    hidden = ["api_key", "x-goog-api-key", "authorization", "authorization_token", "access_token", "client_secret"]
    assert [
        name for name in [*hidden, "max_tokens", "author", "keep_alive", "keywords", "model"] if is_sensitive(name)
    ] == hidden
    shown = hide_keys({"max_tokens": 3, "a": [{"token": "t"}], "key": {"type": "string"}, "s": "say KEY!"}, {"KEY"})
    assert shown == {"max_tokens": 3, "a": [{"token": "***"}], "key": {"type": "string"}, "s": "say ***!"}


def test_a_backend_that_was_never_made_can_be_shown() -> None:
    assert repr(OpenAIBackend.__new__(OpenAIBackend)) == "OpenAIBackend(model_id=None)"
