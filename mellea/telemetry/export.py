"""Sends recorded runs to an OTLP receiver, under the same names as spans that are sent as they happen.

A span has the same ids whenever it is sent, so a receiver recognises a duplicate. Running spans are left out;
a lost span is sent as an error of type `lost` with no duration.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from mellea._version import __version__
from mellea.core.masking import scrub_text
from mellea.errors import BackendError, MissingExtraError, UsageError
from mellea.telemetry import semconv
from mellea.telemetry.attributes import (
    begin_attributes,
    describe_evaluation,
    end_attributes,
    is_remote,
    name_span,
    write_content,
)
from mellea.telemetry.run_file import read_run, read_runs, reading

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

__all__ = ["export_runs"]

_TRACES = "/v1/traces"

_MOST_AT_ONCE = 512
"""How many spans are sent in one request; as many as the SDK sends."""


def export_runs(path: str | os.PathLike[str], endpoint: str, ids: Iterable[int] | None = None) -> int:
    """Send recorded runs to an OTLP receiver by HTTP, and return how many spans were sent.

    Headers, certificates, compression and time limits are those of the variables `OTEL_EXPORTER_OTLP_…`.

    Args:
        path: the record.
        endpoint: address of the receiver, such as `"http://localhost:4318"`.
        ids: which runs, by default all.

    Raises:
        MissingExtraError: OpenTelemetry isn't installed.
        UsageError: there is no such file, or no such run in it, or the address isn't a URL.
        BackendError: the receiver can't be reached, or refused the spans.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # lazy: an extra
        from opentelemetry.sdk.trace.export import SpanExportResult  # lazy: an extra

        from mellea.telemetry.sending import collect_logs, find_reason  # lazy: an extra
    except ImportError as error:
        raise MissingExtraError(
            f"an export needs OpenTelemetry, and {error.name!r} isn't installed; pip install 'mellea[telemetry]'"
        ) from error
    address = _find_address(endpoint)
    with collect_logs() as messages:
        exporter = OTLPSpanExporter(address)
    names = _Ids(path)
    sent = 0
    try:
        with collect_logs() as messages:
            for id in [run["id"] for run in reversed(read_runs(path))] if ids is None else ids:
                messages.clear()
                spans = [_make_span(data, names) for data in read_run(path, id) if data["status"] != "running"]
                # In parts, since receivers limit how much they take at once.
                for first in range(0, len(spans), _MOST_AT_ONCE):
                    part = spans[first : first + _MOST_AT_ONCE]
                    if exporter.export(part) is not SpanExportResult.SUCCESS:
                        why = f": {reason}" if (reason := find_reason(messages)) else ""
                        raise BackendError(f"the receiver at {scrub_text(endpoint)} didn't accept run {id}{why}")
                    sent += len(part)
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
    return sent


def _find_address(endpoint: str) -> str:
    """Return the address for spans of a receiver."""
    try:
        parts = urlsplit(endpoint.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (TypeError, ValueError, AttributeError):  # a port that is none, or no text
        is_address = False
    if not is_address:
        shown = scrub_text(endpoint) if isinstance(endpoint, str) else endpoint
        raise UsageError(f"the address of a receiver is a URL such as 'http://localhost:4318', not {shown!r}")
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(_TRACES) else f"{path}{_TRACES}"))


class _Ids:
    """The ids of traces and spans: always the same for one file, and different for any other."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with reading(path) as connection:
            self._seed = repr(connection.execute("SELECT host, pid, started FROM writers ORDER BY id").fetchone())
            self._runs = dict(connection.execute("SELECT id, run FROM spans"))

    def make_context(self, span: int) -> SpanContext | None:
        """Return the ids of a span, `None` if it isn't in the file."""
        from opentelemetry.trace import SpanContext, TraceFlags  # lazy: an extra

        run = self._runs.get(span)
        if run is None:
            return None
        trace_id, span_id = self._hash(f"run {run}", 16), self._hash(f"span {span}", 8)
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def _hash(self, what: str, size: int) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._seed} {what}".encode()).digest()[:size], "big") or 1


def _make_span(data: Mapping[str, Any], ids: _Ids) -> ReadableSpan:
    from opentelemetry.sdk.trace import Event, ReadableSpan  # lazy: an extra
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # lazy: an extra
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode  # lazy: an extra

    data = dict(data)
    if data["kind"] == "check":
        data["name"] = "check"  # the record has the requirement's words
    if "output_tokens" not in data and not data.get("cost"):
        data.pop("cost", None)  # a rejected request, which a run's total needs
    is_lost = data["status"] == "lost"
    error = "lost" if is_lost else data.get("error_type")
    begin, end = round(data["started"] * 1e9), round((data["started"] + data.get("seconds", 0)) * 1e9)
    attributes = {**begin_attributes(data), **end_attributes(data), **write_content(data)}
    if is_lost:
        attributes[semconv.ATTRIBUTES["error_type"]] = error
    events = [Event(semconv.RETRY_EVENT, timestamp=begin)] * data.get("retries", 0)
    if "is_met" in data:
        evaluation = describe_evaluation(data)
        attributes.update(evaluation)
        events.append(Event(semconv.EVALUATION_EVENT, evaluation, end))
    return ReadableSpan(
        name_span(data),
        context=ids.make_context(data["id"]),
        parent=ids.make_context(data["parent"]) if "parent" in data else None,
        attributes=attributes,
        events=events,
        links=[Link(context) for link in data.get("links", ()) if (context := ids.make_context(link)) is not None],
        kind=SpanKind.CLIENT if is_remote(data) else SpanKind.INTERNAL,
        status=Status() if error is None else Status(StatusCode.ERROR, data.get("error", error)),
        start_time=begin,
        end_time=end,
        instrumentation_scope=InstrumentationScope("mellea", __version__),
    )
