"""Signed approvals, as version 7 of the AI SDK signs them.

The server signs which call of which tool with which input it has asked about. An approval that comes back has to carry
that signature, so that a client can't approve a call that was never asked about.

Source: `ai` 7.0.173, `src/generate-text/tool-approval-signature.ts` and `src/util/canonical-hash.ts`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from typing import Any

from mellea.core.surrogates import replace_surrogates

__all__ = ["is_signed", "sign_approval", "write_canonical"]

_FORMAT = "ai-sdk-tool-approval-v1"


def sign_approval(secret: bytes, approval_id: str, tool_call_id: str, tool_name: str, tool_input: Any) -> str:
    """Return the signature of a question, base64url without padding.

    Args:
        secret: known only to the servers.
        approval_id: the question's id.
        tool_call_id: the call.
        tool_name: the tool.
        tool_input: its input, a JSON value.
    """
    digest = _encode(hashlib.sha256(write_canonical(tool_input).encode()).digest())
    signed = json.dumps(
        [_FORMAT, approval_id, tool_call_id, tool_name, digest], ensure_ascii=False, separators=(",", ":")
    )
    return _encode(hmac.new(secret, replace_surrogates(signed).encode(), hashlib.sha256).digest())


def is_signed(
    secret: bytes, signature: Any, approval_id: str, tool_call_id: str, tool_name: str, tool_input: Any
) -> bool:
    """Whether a signature from outside is that of the question."""
    if not isinstance(signature, str):
        return False
    # Computed again from the data that came back, so the signature covers the call, the tool and its input together.
    right = sign_approval(secret, approval_id, tool_call_id, tool_name, tool_input)
    # `compare_digest` only accepts ASCII strings, and this one comes from outside.
    return hmac.compare_digest(right.encode(), replace_surrogates(signature).encode())


def write_canonical(value: Any) -> str:
    """Return a JSON value as JavaScript's `JSON.stringify` writes it, with the keys of objects sorted."""
    if isinstance(value, Mapping):
        # JavaScript sorts by UTF-16 code units, Python by code points; beyond U+FFFF these differ.
        pairs = sorted(value.items(), key=lambda pair: pair[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join([f"{_write(key)}:{write_canonical(item)}" for key, item in pairs]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(write_canonical, value)) + "]"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return _write_number(value) if is_number else _write(value)


def _write(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return replace_surrogates(text)


def _write_number(value: float) -> str:
    """Return a number as JavaScript writes it, which only has doubles (ECMA-262, Number::toString)."""
    try:
        number = float(value)
    # A whole number too large for a double is infinite in JavaScript, and `JSON.stringify` writes that as null.
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return "null"
    # Also for -0.
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(digits) - len(fraction) + int(exponent or 0)  # its position, counted from the first digit
    digits = digits.rstrip("0")
    # ECMA-262 changes to an exponent at these two places.
    if point > 21 or point < -5:
        return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1:+d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[:point].ljust(point, '0')}{'.' if digits[point:] else ''}{digits[point:]}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
