import httpx
import pytest

from mellea.errors import ConfigurationError
from mellea.testing.engine_server import count_busy_slots, engine_server
from tests.waiting import until_here


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("xllamacpp")
    try:
        with engine_server(context_window=512, parallel=2) as server:
            yield server
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.fixture
def client(server):
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def body(**more):
    return {"model": "smollm2-135m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **more}


def test_chat(server, client):
    reply = client.post("/chat/completions", json=body()).json()
    assert reply["model"] == server.model == "smollm2-135m"
    assert reply["choices"][0]["finish_reason"] in ("stop", "length")


def test_stream(client):
    with client.stream("POST", "/chat/completions", json=body(stream=True)) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_messages(server):
    headers = {"x-api-key": server.api_key}
    reply = httpx.post(f"{server.root}/v1/messages", json=body(), headers=headers, trust_env=False, timeout=30)
    assert reply.json()["type"] == "message"


def test_the_key_is_needed_and_not_shown(server):
    reply = httpx.post(f"{server.url}/chat/completions", json=body(), trust_env=False)
    assert reply.status_code == 401
    assert server.api_key not in repr(server)


def test_busy_slots(server, client):
    # It may not be counted from its first byte on, and goes on until the context is full.
    long = body(stream=True, max_tokens=4000, ignore_eos=True)
    with client.stream("POST", "/chat/completions", json=long) as reply:
        # httpx ends the request with the iterator, so that one has to be kept.
        assert any(count_busy_slots(server.url, server.api_key) == 1 for _ in reply.iter_lines())
    until_here(lambda: count_busy_slots(server.url, server.api_key) == 0)
    with pytest.raises(ConfigurationError):
        count_busy_slots(None, "")


def test_it_ends_while_a_client_streams():
    pytest.importorskip("xllamacpp")
    with engine_server(context_window=512, parallel=1) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        client = httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30)
        reply = client.send(client.build_request("POST", "/chat/completions", json=body(stream=True)), stream=True)
    reply.close()
    client.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)
