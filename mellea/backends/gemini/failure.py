"""How long Gemini asks to wait: it says so in the error itself (google.rpc.RetryInfo), not in a header."""

from __future__ import annotations

from mellea.backends.gemini.wire import Json

__all__ = ["retry_delay"]

_RETRY_INFO = "google.rpc.RetryInfo"


def retry_delay(report: Json) -> float | None:
    """Return the seconds that an error asks to wait before the next attempt, `None` if it doesn't say.

    Args:
        report: the body of the error, or the error in it.
    """
    if isinstance(report, list) and report:  # the error of a stream comes in a list
        report = report[0]
    if not isinstance(report, dict):
        return None
    error = report.get("error")
    details = (error if isinstance(error, dict) else report).get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(_RETRY_INFO):
            return _seconds(detail.get("retryDelay"))
    return None


def _seconds(duration: Json) -> float | None:
    """Read a protobuf Duration: `"2.4s"` in JSON; some proxies write its fields instead."""
    fields = duration if isinstance(duration, dict) else {"seconds": str(duration).removesuffix("s")}
    try:
        seconds = float(fields.get("seconds") or 0) + float(fields.get("nanos") or 0) / 1e9
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
