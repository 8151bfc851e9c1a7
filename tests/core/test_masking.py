"""What looks like a key is hidden, in any text, and everything else stays."""

from __future__ import annotations

import pytest

from mellea.core.masking import HIDDEN, hide_keys, scrub_text

BODY = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA"

KEYS = (
    *[f"{prefix}{BODY}" for prefix in ("sk-", "sk-proj-", "sk-ant-api03-", "sk-or-v1-", "gsk_", "xai-", "pplx-")],
    *[f"{prefix}{BODY}" for prefix in ("csk-", "nvapi-", "vck_", "tvly-dev-", "glpat-", "lsv2_pt_", "pypi-", "rk_")],
    *[f"{prefix}{BODY}" for prefix in ("fw_", "r8_", "npm_", "tgp_v1_", "jina_", "pa-", "dapi", "sk_live_", "whsec_")],
    *[f"{prefix}{BODY}" for prefix in ("AIza", "AQ.", "ya29.", "hf_", "ghp_", "github_pat_", "xoxb-", "ABSK")],
    "AKIAIOSFODNN7EXAMPLE",
    f"SG.{BODY}.{BODY}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{BODY}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n{BODY}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\n{BODY}",
)


@pytest.mark.parametrize("key", KEYS)
def test_the_keys_of_wide_spread_services_are_hidden(key: str) -> None:
    assert scrub_text(f"it is {key}") == f"it is {HIDDEN}"
    assert BODY not in scrub_text(f'{{"text": "({key})"}}')


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"https://api.example/v1?model=x&api_key={BODY}&n=1", f"https://api.example/v1?model=x&api_key={HIDDEN}&n=1"),
        ("GET /?key=sesame7 HTTP/1.1", f"GET /?key={HIDDEN} HTTP/1.1"),
        ("https://files.example/a.png?X-Amz-Signature=0a1b2c", f"https://files.example/a.png?X-Amz-Signature={HIDDEN}"),
        ("postgres://ada:lovelace@db.example/x", f"postgres://{HIDDEN}@db.example/x"),
        (f"Authorization: Bearer {BODY}", f"Authorization: Bearer {HIDDEN}"),
        (f"authorization: bearer {BODY}", f"authorization: bearer {HIDDEN}"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZDEyMw==", f"Authorization: Basic {HIDDEN}"),
        (f"x-api-key: {BODY}", f"x-api-key: {HIDDEN}"),
        (f"ACME_API_KEY={BODY}", f"ACME_API_KEY={HIDDEN}"),
        (f'{{"client_secret": "{BODY}", "n": 1}}', f'{{"client_secret": "{HIDDEN}", "n": 1}}'),
        (rf'{{\"apiKey\":\"{BODY}\"}}', rf'{{\"apiKey\":\"{HIDDEN}\"}}'),
    ],
)  # fmt: skip
def test_fields_that_hold_a_key_keep_their_names(text: str, hidden: str) -> None:
    assert scrub_text(text) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "The password: required, at least 8 characters long.",
        "password = getpass.getpass_of_the_user()",
        "task-oriented-dialogue-systems-in-practice, fw_update_the_firmware_of_all",
        "https://example.org/a?page=2&q=tokens see http://[::1]:8080/x and mail ada@example.org",
        "The secret_key setting, the API key: see below. Bearer tokens are explained later.",
        "sk-short, AIza, hf_x, eyJ.a.b, SG.x.y",
    ],
)
def test_what_only_speaks_of_keys_stays(text: str) -> None:
    assert scrub_text(text) == text


def test_fields_are_hidden_in_lists_too_and_what_describes_a_field_stays() -> None:
    schema = {"properties": {"api_key": {"type": "string"}}}
    assert hide_keys({"api_keys": ["a", 1], "password": "b", "max_tokens": "12", "token": 3}) == {
        "api_keys": [HIDDEN, 1],
        "password": HIDDEN,
        "max_tokens": "12",
        "token": 3,
    }
    assert hide_keys(schema) == schema


def test_what_is_nested_without_end_ends() -> None:
    endless: dict[str, object] = {"password": "x"}
    endless["again"] = [endless]
    assert "x" not in str(hide_keys(endless)).replace("\\x", "").split("'")
