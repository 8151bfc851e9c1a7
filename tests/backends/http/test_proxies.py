"""Which proxy stands between here and a server, and which stands in nobody's way."""

from __future__ import annotations

from urllib.request import getproxies_environment

import httpx
import pytest

from mellea import MelleaSession
from mellea.backends.http.proxies import find_proxies, find_proxy, is_loopback
from mellea.backends.openai import OpenAIBackend
from mellea.errors import ConfigurationError, ConnectError, MelleaError
from tests.backends.http.misbehaving import END, LAST, OK, Connection, chunk, misbehaving, text
from tests.backends.http.tiny import TinyBackend, request

PROXY = {"http": "http://proxy:1", "https": "http://proxy:2"}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost.", "LocalHost", "a.localhost", "127.0.0.1", "127.3.2.1", "127.1", "2130706433", "0.0.0.0",
     "::1", "[::1]", "::ffff:127.0.0.1", "::"],
)  # fmt: skip
def test_this_machine_is_reached_without_a_proxy(host: str) -> None:
    assert is_loopback(host)
    assert find_proxy("http", host, 80, {"all": "gopher://nonsense"}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"HTTPS_PROXY": "http://upper:1"},
        {"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1", "NO_PROXY": "a.com"},
        {"HTTPS_PROXY": "http://upper:1", "https_proxy": ""},
        {"HTTPS_PROXY": "", "All_Proxy": "http://mixed:1", "all_proxy": "http://lower:1"},
        {"HTTP_PROXY": "http://anybody:1", "REQUEST_METHOD": "GET"},
        {"HTTP_PROXY": "http://anybody:1", "http_proxy": "http://lower:1", "REQUEST_METHOD": "GET"},
        {"Http_Proxy": "http://mixed:1", "ftp_proxy": "http://lower:1"},
        {"REQUEST_METHOD": "GET"},
    ],
)
def test_proxies_of_the_environment_are_found_as_urllib_finds_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert dict(find_proxies()) == getproxies_environment()


@pytest.mark.parametrize("host", ["localhost.example.com", "127.example.com", "10.0.0.1", "fd00::1", "beef.cafe"])
def test_other_machines_are_others(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_direct"),
    [
        ("*", "a.com", True),
        ("a.com", "a.com", True),
        ("a.com", "b.a.com", True),
        ("a.com", "ba.com", False),
        (".a.com", "b.a.com", True),
        ("*.a.com", "b.a.com", True),
        ("A.COM.", "a.com", True),
        ("x , b.com", "b.com", True),
        ("x b.com", "b.com", True),
        ("a.com:443", "a.com", True),
        ("a.com:8443", "a.com", False),
        ("https://a.com", "a.com", True),
        ("http://a.com", "a.com", False),
        ("10.0.0.0/8", "10.2.3.4", True),
        ("10.0.0.0/8", "11.2.3.4", False),
        ("10.1.1.1/8", "10.2.3.4", True),
        ("10.2.3.4", "10.2.3.4", True),
        ("fd07:b51a:cc66:f0::/64", "fd07:b51a:cc66:f0::9", True),
        ("fd07:b51a:cc66:f0::/64", "fd08::9", False),
        ("[fd07::1]", "fd07::1", True),
        ("[fd07::1]:443", "fd07::1", True),
        ("fd07::1", "fd07:0:0::1", True),
        ("[::1", "a.com", False),
        ("10.0.0.0/99", "10.0.0.1", False),
        ("://", "a.com", False),
        ("", "a.com", False),
    ],
)
def test_no_proxy_in_all_its_forms(no_proxy: str, host: str, is_direct: bool) -> None:
    assert (find_proxy("https", host, None, {**PROXY, "no": no_proxy}) is None) is is_direct


def test_the_own_scheme_goes_before_all() -> None:
    everything = {**PROXY, "all": "socks5h://proxy:3"}
    found = [find_proxy(scheme, "a.com", None, everything) for scheme in ("http", "https")]
    assert [proxy and proxy.place for proxy in found] == ["http://proxy:1", "http://proxy:2"]
    alone = find_proxy("https", "a.com", None, {"all": "proxy:3"})
    assert alone is not None and alone.url == "http://proxy:3"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", ["gopher://proxy:1", "http://", "http://[::1", "http://host:port", "socks4://h:1"])
def test_an_error_names_the_variable_and_no_password(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = value.replace("://", "://user:secret-word@", 1)
    monkeypatch.setenv(variable, value)
    kind = variable.lower().partition("_")[0]
    with pytest.raises(ConfigurationError, match=variable) as caught:
        find_proxy("https", "a.com", None, {kind: value})
    assert "secret-word" not in str(caught.value)


def good(connection: Connection) -> None:
    connection.send(OK, chunk(text("well")), chunk(END), LAST)


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["socks5h://127.0.0.1:9", "gopher://x", "http://127.0.0.1:9", "http://[::1"])
async def test_a_server_here_is_reached_whatever_the_proxies_are(
    value: str, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    monkeypatch.setenv("NO_PROXY", "[::1,fd07::/64")
    with misbehaving(good) as server:
        backend = TinyBackend("m", base_url=server.url)
        assert [event async for event in backend.run(request())]
        await backend.aclose()


@pytest.mark.anyio
async def test_requests_go_through_the_proxy(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with misbehaving(good) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:word@127.0.0.1:{server.port}")
        backend = TinyBackend("m", base_url="http://model.invalid/v1")
        assert [event async for event in backend.run(request())]
        first, headers, _ = server.requests[0]
        assert first.startswith("POST http://model.invalid/v1/chat")
        assert headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"
        await backend.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("server", ["http", "https"])
@pytest.mark.parametrize("proxy", ["http", "socks5"])
@pytest.mark.parametrize(
    ("place", "problem"),
    [("127.0.0.1:9", "nothing listens at the proxy {}"), ("proxy.invalid:80", "the proxy {} of .* can't be found")],
)
async def test_a_proxy_that_is_down_is_named(
    place: str, problem: str, proxy: str, server: str, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{server}_proxy", f"{proxy}://ann:secret-word@{place}")
    said = problem.format(f"'{proxy}://{place}'").replace(".", r"\.").replace(r"\.*", ".*")
    with pytest.raises(ConnectError, match=f"^{said}") as caught:
        [event async for event in TinyBackend("m", base_url=f"{server}://model.invalid/v1", retries=0).run(request())]
    message = str(caught.value)
    assert f"of {server}_proxy" in message and f"which {server}://model.invalid is reached through" in message
    assert "is the proxy running" in message and "NO_PROXY" in message
    assert "is the server running" not in message
    assert "ann" not in message and "secret-word" not in f"{message} {caught.value.__cause__!r}"


@pytest.mark.anyio
async def test_the_proxy_of_ones_own_client_is_considered() -> None:
    async with httpx.AsyncClient(proxy="http://ann:secret-word@127.0.0.1:9") as client:
        backend = OpenAIBackend("m", base_url="http://model.invalid/v1", client=client, api_key="", retries=0)
        with pytest.raises(ConnectError, match=r"is the server running.* If your client= uses a proxy") as caught:
            [event async for event in backend.run(request())]
    assert "secret-word" not in str(caught.value)


@pytest.mark.anyio
async def test_a_proxy_of_the_environment_logs_no_address(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    caplog.set_level("INFO")
    with misbehaving(good) as server:
        backend = OpenAIBackend("m", base_url=f"{server.url}?key=secret-in-query", retries=0)
        async with MelleaSession(backend) as m:
            with pytest.raises(MelleaError):
                await m.ainstruct("x")
    assert "secret-in-query" not in caplog.text
