"""`OLLAMA_HOST` in its various forms."""

from __future__ import annotations

import pytest

from mellea.backends.ollama import OllamaModelBackend
from mellea.backends.ollama.backend import parse_host
from mellea.errors import ConfigurationError


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("  'box' ", "http://box:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":56789", "http://127.0.0.1:56789"),
        ("1.2.3.4:56789", "http://1.2.3.4:56789"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:9", "http://[::1]:9"),
        ("http://1.2.3.4", "http://1.2.3.4"),
        ("http://0.0.0.0:11434/", "http://127.0.0.1:11434"),
        ("https://ollama.com", "https://ollama.com"),
        ("https://box:1/path/", "https://box:1/path"),
        ("box/path", "http://box:11434/path"),
        ("[1:2::3]", "http://[1:2::3]:11434"),
        ("http://[1:2::3]:5", "http://[1:2::3]:5"),
        ("http://ada:secret@box:1", "http://ada:secret@box:1"),
    ],
)
def test_every_form_is_an_address(host: str, address: str) -> None:
    assert parse_host(host) == address


@pytest.mark.parametrize("host", ["box:port", "box:999999", "http://[::1"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(ConfigurationError, match="OLLAMA_HOST"):
        parse_host(f"{host}")


def test_an_error_shows_no_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_host("http://ada:secret@box:port")
    assert "secret" not in str(caught.value)


def test_the_backend_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "gpu:1")
    assert OllamaModelBackend("m").base_url == "http://gpu:1"
    monkeypatch.delenv("OLLAMA_HOST")
    assert OllamaModelBackend("m").base_url == "http://127.0.0.1:11434"
    assert OllamaModelBackend("m", base_url="http://other").base_url == "http://other"
