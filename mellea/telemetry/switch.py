"""Switching OpenTelemetry on and off, by a call or by `MELLEA_TELEMETRY`.

Rules:

- A program that has set up OpenTelemetry keeps its providers: spans and metrics go there.
- For one that hasn't, an exporter is set up here, and shut down here: when it is switched off, and at the end of the
  program, after everything that is still running has been ended.
- The global providers are never set here.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from mellea._version import __version__
from mellea.core.entrance import entrance
from mellea.core.observer import add_observer, end_open_spans, listening, remove_observer
from mellea.core.runtime import cancel_all
from mellea.core.terminal import make_visible
from mellea.errors import ConfigurationError, MissingExtraError, UsageError
from mellea.telemetry import semconv

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from mellea.telemetry.spans import Content

__all__ = ["disable", "enable", "enable_from_environment", "end_what_runs", "read_content_switch"]

Exporter = Literal["otlp", "console"]

_SWITCH = "MELLEA_TELEMETRY"
_LEAVE_SECONDS = 1.0
"""How long the program's end waits for cancelled work."""

_CONTENT: dict[str, Content] = {
    "": "none",
    "NO_CONTENT": "none",
    "FALSE": "none",
    "SPAN_ONLY": "spans",
    "TRUE": "spans",
    "EVENT_ONLY": "events",
    "SPAN_AND_EVENT": "both",
}

_log = logging.getLogger("mellea")
_lock = threading.Lock()
_observers: list[Any] = []
_shutdowns: list[Callable[[], Any]] = []
_is_registered = False


@entrance(
    "enable",
    endpoint="OTEL_EXPORTER_OTLP_ENDPOINT in the environment names the collector",
    headers="OTEL_EXPORTER_OTLP_HEADERS in the environment has them",
    **dict.fromkeys(("service_name", "name"), "OTEL_SERVICE_NAME in the environment names the program"),
    **dict.fromkeys(("capture_content", "record_content", "capture_message_content"), "write content=True"),
)
def enable(
    exporter: Exporter | None = None,
    *,
    content: bool | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Make OpenTelemetry spans and metrics for all calls from now on; another call replaces the previous settings.

    Args:
        exporter: `"otlp"` sends to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names (by HTTP, or gRPC if
            `OTEL_EXPORTER_OTLP_PROTOCOL` says so), `"console"` writes one line per span to stderr. By default, the
            program's own set-up is used, or OTLP if it has none.
        content: whether spans contain prompts, answers, arguments and results of tools, and reasons of checks. By
            default `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` decides; if it isn't set, they don't. Keys are
            never included.
        tracer_provider: makes the spans, instead of an exporter.
        meter_provider: makes the metrics, instead of an exporter.

    Raises:
        UsageError: an argument is wrong, or two contradict each other.
        MissingExtraError: OpenTelemetry, or its exporter for gRPC, isn't installed.
        ConfigurationError: the environment asks for another protocol.
    """
    has_providers = tracer_provider is not None or meter_provider is not None
    _check(exporter, content, tracer_provider, meter_provider)
    where = read_content_switch() if content is None else "spans" if content else "none"
    try:
        # Lazy, and optional: the extra `telemetry`.
        from opentelemetry.metrics import get_meter_provider  # lazy
        from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider  # lazy

        from mellea.telemetry.metrics import Histograms  # lazy
        from mellea.telemetry.spans import SpanObserver  # lazy

        if exporter is None and not has_providers:
            tracer_provider, meter_provider = get_tracer_provider(), get_meter_provider()
            # Nothing is set up: the placeholder for a later provider is the API's own, not the SDK's.
            if isinstance(tracer_provider, ProxyTracerProvider) and _is_of_api(meter_provider):
                exporter = "otlp"
        ends: list[Callable[[], Any]] = []
        if exporter is not None:
            tracer_provider, meter_provider, shut_down = _set_up(exporter)
            ends.append(shut_down)
    except MissingExtraError:  # which says more
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"telemetry needs OpenTelemetry, and {error.name!r} isn't installed; pip install 'mellea[telemetry]'"
        ) from error
    tracer = None if tracer_provider is None else tracer_provider.get_tracer("mellea", __version__)
    meter = None if meter_provider is None else meter_provider.get_meter("mellea", __version__)
    histograms = None if meter is None else Histograms(meter)
    if histograms is not None:
        ends.insert(0, histograms.flush)
    _replace([SpanObserver(tracer, histograms, where)], ends)


def _check(exporter: Any, content: Any, tracer_provider: Any, meter_provider: Any) -> None:
    if exporter not in (None, "otlp", "console"):
        raise UsageError(f"exporter takes 'otlp', 'console' or None, not {exporter!r}")
    if content not in (True, False, None):
        raise UsageError(f"content takes True, False or None, not {content!r}")
    for name, provider, method in (
        ("tracer_provider", tracer_provider, "get_tracer"),
        ("meter_provider", meter_provider, "get_meter"),
    ):
        if provider is not None and not callable(getattr(provider, method, None)):
            raise UsageError(f"{name} takes a provider of OpenTelemetry, such as its SDK's, not {provider!r}")
    if exporter is not None and (tracer_provider is not None or meter_provider is not None):
        raise UsageError(
            f"exporter={exporter!r} can't be combined with a provider, which has its own exporters; give one of them"
        )


def _is_of_api(provider: Any) -> bool:
    return type(provider).__module__.startswith("opentelemetry.metrics")


def disable() -> None:
    """Stop making spans and metrics for new calls; an exporter that was set up here sends what it has collected."""
    _replace([], [])


def enable_from_environment() -> None:
    """Switch on what `MELLEA_TELEMETRY` asks for: `otlp` or `console`; a failure is logged as a warning."""
    wanted: Any = os.environ.get(_SWITCH, "").strip().lower()
    if wanted in ("", "0", "off", "none"):
        return
    try:
        if wanted not in ("otlp", "console"):
            raise UsageError(f"it takes 'otlp' or 'console', not {wanted!r}")
        enable(wanted)
    except (ConfigurationError, UsageError) as error:
        _log.warning("%s has no effect: %s", _SWITCH, error)


def read_content_switch() -> Content:
    """Return the value of the switch that other libraries use as well; an invalid one is logged as a warning."""
    given = os.environ.get(semconv.CONTENT_SWITCH, "").strip()
    found = _CONTENT.get(given.upper())
    if found is None:
        _log.warning(
            "%s takes %s, not %r; no content is captured",
            semconv.CONTENT_SWITCH,
            ", ".join(filter(None, _CONTENT)),
            given,
        )
    return found or "none"


def _set_up(exporter: Exporter) -> tuple[TracerProvider, MeterProvider, Callable[[], Any]]:
    # Lazy: only a program that has no providers of its own needs the SDK.
    if exporter == "otlp":
        from mellea.telemetry.sending import make_providers  # lazy

        return make_providers()
    from opentelemetry.sdk.metrics import MeterProvider  # lazy
    from opentelemetry.sdk.trace import TracerProvider  # lazy
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor  # lazy

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr, formatter=_format_line)))
    return tracers, MeterProvider([], shutdown_on_exit=False), tracers.shutdown


def _format_line(span: Any) -> str:
    """Return a span as a line for the console."""
    seconds = ((span.end_time or span.start_time) - span.start_time) / 1e9
    known = " ".join(f"{name}={value!r}" for name, value in (span.attributes or {}).items())
    # Values are written with `repr`; a name could contain terminal control characters.
    return f"{make_visible(span.name)}  {seconds:.3f} s  {known}\n"


def _replace(observers: list[Any], ends: list[Callable[[], Any]]) -> None:
    global _is_registered
    with _lock:
        before, after = [*_observers], [*_shutdowns]
        _observers[:], _shutdowns[:] = observers, ends
        for observer in before:
            remove_observer(observer)
        for observer in observers:
            add_observer(observer)
        if observers and not _is_registered:
            _is_registered = True
            atexit.register(_leave)
    for end in after:
        end()


def end_what_runs() -> None:
    """At the end of the program, cancel what is still running, and end all spans, so that they are reported."""
    if listening.open_spans():
        cancel_all()
        until = time.monotonic() + _LEAVE_SECONDS
        while listening.open_spans() and time.monotonic() < until:
            time.sleep(0.005)
        end_open_spans()


def _leave() -> None:
    """At the end of the program, send everything that is left."""
    if _observers:
        end_what_runs()
    disable()
