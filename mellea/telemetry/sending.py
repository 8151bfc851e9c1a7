"""Exporters that send OTLP, by HTTP or gRPC, and how they end.

Rules:

- The protocol is that of `OTEL_EXPORTER_OTLP_PROTOCOL`, or of `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL` and
  `OTEL_EXPORTER_OTLP_METRICS_PROTOCOL`; HTTP by default.
- `OTEL_TRACES_EXPORTER=none` and `OTEL_METRICS_EXPORTER=none` switch one of the two off, as in the SDK.
- A collector that is down, or doesn't answer, holds up the end of the program for a few seconds at most. The SDK alone
  would continue for its own time-outs, first for spans and then for metrics.
- The exporters' log messages contain no keys, such as one in the collector's address.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from mellea.core.masking import HIDDEN, list_known_secrets, scrub_text
from mellea.errors import ConfigurationError, MissingExtraError

__all__ = ["collect_logs", "find_reason", "make_providers"]

_END_SECONDS = 3.0
"""How long everything that is still to be sent may take at the end, spans and metrics together."""

_STOP_SECONDS = 0.5
"""How long an exporter may take to stop."""

_log = logging.getLogger("mellea")


def make_providers() -> tuple[TracerProvider, MeterProvider, Callable[[], None]]:
    """Return providers that send to the collector of `OTEL_EXPORTER_OTLP_ENDPOINT`, and what ends them.

    Raises:
        ConfigurationError: the environment asks for an unknown protocol.
        MissingExtraError: its exporter isn't installed.
    """
    quiet = _KeyFilter()
    _add_filter(quiet)  # first: what is wrong with the environment is logged when the exporters are made
    tracers, meters, stops = TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False), []
    try:
        if _is_wanted("OTEL_TRACES_EXPORTER"):
            spans = _make_exporter("trace", "OTLPSpanExporter")
            tracers.add_span_processor(BatchSpanProcessor(spans))
            stops.append(spans.shutdown)
        if _is_wanted("OTEL_METRICS_EXPORTER"):
            metrics = _make_exporter("metric", "OTLPMetricExporter")
            meters = MeterProvider([PeriodicExportingMetricReader(metrics)], shutdown_on_exit=False)
            stops.append(metrics.shutdown)
    except BaseException:
        _remove_filter(quiet)
        raise
    return tracers, meters, partial(_shut_down, (tracers.shutdown, meters.shutdown), stops, quiet)


def _is_wanted(switch: str) -> bool:
    """Return whether a signal is exported: viewers of traces, for example, take no metrics."""
    return os.environ.get(switch, "").strip().lower() != "none"


_PACKAGES = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
}
"""The packages of the exporters, by what the environment calls their protocols."""


def _make_exporter(what: str, name: str) -> Any:
    switch = "OTEL_EXPORTER_OTLP_PROTOCOL"
    own = f"OTEL_EXPORTER_OTLP_{what.upper()}S_PROTOCOL"
    switch = own if os.environ.get(own, "").strip() else switch
    protocol = os.environ.get(switch, "").strip() or "http/protobuf"
    package = _PACKAGES.get(protocol)
    if package is None:
        raise ConfigurationError(f"{switch} takes {' or '.join(map(repr, _PACKAGES))}, not {protocol!r}")
    try:
        return getattr(importlib.import_module(f"{package}.{what}_exporter"), name)()
    except ModuleNotFoundError as error:
        if protocol != "grpc":
            raise  # a part of the extra
        raise MissingExtraError(
            f"{switch}={protocol} needs {error.name!r}, which isn't installed; pip install "
            "opentelemetry-exporter-otlp-proto-grpc, or use http/protobuf, which most collectors have on port 4318"
        ) from error


def _shut_down(ends: Sequence[Callable[[], None]], stops: Sequence[Callable[[], None]], quiet: _KeyFilter) -> None:
    """Send everything that is left, concurrently, and give up after a while."""
    until = time.monotonic() + _END_SECONDS
    try:
        running = [end for each in ends if (end := _start(each)) is not None]
        if not _join(running, until):
            quiet.is_silent = True  # from now on the exporters would only report that they were stopped
            for stop in stops:
                stop()  # ends the pause between two attempts
            _join(running, time.monotonic() + _STOP_SECONDS)
            _log.warning(
                "telemetry: not everything was sent, as the collector didn't take it within %.0f s at the end; see "
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                _END_SECONDS,
            )
    finally:
        _remove_filter(quiet)


def _start(end: Callable[[], None]) -> threading.Thread | None:
    # A daemon, so that the program's end doesn't wait for a thread that is waiting for a response.
    thread = threading.Thread(target=end, name="mellea-telemetry-end", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter ends, and no thread can be started any more
        end()
        return None
    return thread


def _join(threads: list[threading.Thread], until: float) -> bool:
    """Wait for threads, and return whether all of them have ended."""
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


@contextmanager
def collect_logs() -> Iterator[list[str]]:
    """Collect the exporters' messages in a `with` block, without keys, instead of logging them."""
    quiet = _KeyFilter()
    quiet.is_silent = True
    _add_filter(quiet)
    try:
        yield quiet.messages
    finally:
        _remove_filter(quiet)


def find_reason(messages: Sequence[str]) -> str:
    """Return why nothing was sent, from what an exporter has logged; `""` if it doesn't say."""
    for message in messages:
        # The operating system's own words, from within the names of several libraries' classes.
        if found := re.search(r"\[Errno -?\d+\] ([^\"'()<>]+)", message):
            return found[1].strip()
    return next((found[1] for message in messages if (found := re.search(r"code: \w+, reason: (.+)", message))), "")


class _KeyFilter(logging.Filter):
    """Takes keys out of log records.

    Attributes:
        is_silent: whether to drop the exporters' records.
        messages: what they said.
    """

    is_silent = False

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite a record, and return whether it is logged."""
        if record.name == _HEADERS.name:
            record.args = (HIDDEN,)  # a header, which it quotes, as it couldn't be read
        secrets = list_known_secrets() | _list_exporter_secrets()
        record.msg, record.args = scrub_text(record.getMessage(), secrets), ()
        self.messages[_MOST_MESSAGES:] = [record.msg]
        # The message says what happened; a traceback would say it again, with the address.
        record.exc_info = record.exc_text = None
        return not self.is_silent or record.name == _HEADERS.name  # a header that isn't sent is no exporter's failure


def _list_exporter_secrets() -> frozenset[str]:
    """Return the values of the headers, and the passwords in the addresses, that the environment has for exporters."""
    found = []
    for name, value in os.environ.items():
        if name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("HEADERS"):
            found += [header.partition("=")[2].strip() for header in value.split(",")]
        elif name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("ENDPOINT"):
            found.append(value.rpartition("@")[0].rpartition(":")[2])
    return frozenset([secret for secret in found if len(secret) >= _SHORTEST_SECRET])


_MOST_MESSAGES = 20  # an exporter that runs for months may report many failures

_SHORTEST_SECRET = 6
"""A shorter one may be a part of any word."""

_HEADERS = logging.getLogger("opentelemetry.util.re")
_LOGGERS = (
    _HEADERS,
    *[
        logging.getLogger(f"opentelemetry.exporter.otlp.proto.{module}")
        for module in ("http.trace_exporter", "http.metric_exporter", "grpc.exporter")
    ],
)


def _add_filter(quiet: _KeyFilter) -> None:
    # A logger's filter doesn't apply to its children's records, so each child gets it.
    for logger in _LOGGERS:
        logger.addFilter(quiet)


def _remove_filter(quiet: _KeyFilter) -> None:
    for logger in _LOGGERS:
        logger.removeFilter(quiet)
