"""The values of `format` that are checked, each as a function of the text (JSON Schema 2020-12, section 7.3)."""

from __future__ import annotations

import datetime
import ipaddress
import re
import uuid
from collections.abc import Callable

__all__ = ["FORMATS"]

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"(\d\d:\d\d:\d\d)(?:\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(
    r"P(?!\Z)(?:\d{1,12}W|(?:\d{1,12}Y)?(?:\d{1,12}M)?(?:\d{1,12}D)?(?:T(?!\Z)(?:\d{1,12}H)?(?:\d{1,12}M)?(?:\d{1,12}S)?)?)",
    re.ASCII,
)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+", re.ASCII)


def _make_predicate(read: Callable[[str], object]) -> Callable[[str], bool]:
    def is_read(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return is_read


_is_day = _make_predicate(datetime.date.fromisoformat)
_is_clock = _make_predicate(datetime.time.fromisoformat)


def _is_date(text: str) -> bool:
    return _DATE.fullmatch(text) is not None and _is_day(text)


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    # 60 is a leap second, which Python doesn't know.
    return found is not None and _is_clock(found[1].replace(":60", ":59") + found[2].upper())


def _is_hostname(text: str) -> bool:
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def _is_email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    is_local = _LOCAL.fullmatch(local) is not None and not local.startswith(".") and ".." not in local
    return bool(at) and is_local and not local.endswith(".") and _is_hostname(domain)


FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _is_date,
    "date-time": lambda text: text[10:11] in ("T", "t", " ") and _is_date(text[:10]) and _is_time(text[11:]),
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
    "email": _is_email,
    "hostname": _is_hostname,
    "ipv4": _make_predicate(ipaddress.IPv4Address),
    "ipv6": _make_predicate(ipaddress.IPv6Address),
    "time": _is_time,
    "uri": lambda text: _URI.fullmatch(text) is not None,
    "uuid": lambda text: len(text) == 36 and _make_predicate(uuid.UUID)(text),
}
