"""Switching telemetry on: by a call or the environment, into the program's own providers or a real receiver."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from typing import Any

import pytest

import mellea
from mellea.core.observer import listening
from mellea.errors import ConfigurationError, MissingExtraError, UsageError
from mellea.testing import ScriptedBackend
from tests.telemetry.conftest import Seen
from tests.telemetry.receiver import Receiver

PROGRAM = """
    import mellea
    from mellea.core import Usage
    from mellea.stdlib.requirements import check, simple_validate
    from mellea.testing import ScriptedBackend

    m = mellea.start_session(ScriptedBackend("no", "yes", usage=Usage(3, 4)))

    @mellea.trace
    def answer():
        fine = check("is yes", validation_fn=simple_validate(lambda text: text == "yes"))
        return m.instruct("the password is correct horse", name="pick", requirements=[fine])

    with mellea.traces.start("program") as t:
        assert str(answer()) == "yes"
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_receiver_gets_the_tree_of_a_program_that_was_switched_on_from_outside(receiver: Receiver) -> None:
    endpoint = f"http://127.0.0.1:{receiver.server_port}"
    headers = "authorization=Bearer%20planted-key"
    run(PROGRAM, MELLEA_TELEMETRY="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_HEADERS=headers)
    names = {span.span_id: span.name for span in receiver.spans}
    parents = sorted((names.get(span.parent_span_id, ""), span.name) for span in receiver.spans)
    assert parents == sorted(
        [
            ("", "program"),
            ("program", "answer"),
            ("answer", "invoke_workflow pick"),
            *[("invoke_workflow pick", f"attempt {number}") for number in (1, 2)],
            *[(f"attempt {number}", name) for number in (1, 2) for name in ("chat script", "check")],
        ]
    )
    assert len({span.trace_id for span in receiver.spans}) == 1
    chat = next(span for span in receiver.spans if span.name == "chat script")
    assert {"gen_ai.operation.name", "gen_ai.provider.name", "session.id"} <= {each.key for each in chat.attributes}
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} <= receiver.metrics
    assert b"correct horse" not in receiver.raw


@pytest.mark.parametrize(("switch", "paths"), [("TRACES", {"/v1/metrics"}), ("METRICS", {"/v1/traces"})])
def test_a_receiver_that_takes_only_traces_or_only_metrics_gets_only_these(
    receiver: Receiver, switch: str, paths: set[str]
) -> None:
    endpoint = f"http://127.0.0.1:{receiver.server_port}"
    off = {f"OTEL_{switch}_EXPORTER": "none"}
    done = run(PROGRAM, MELLEA_TELEMETRY="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **off)
    assert set(receiver.paths) == paths and done.stderr.strip() in ("", b"")


EVERY_WAY = """
    import asyncio, threading
    import mellea, trio
    from mellea.testing import ScriptedBackend

    m = mellea.start_session(ScriptedBackend(*["x"] * 20))

    async def stream():
        async for _ in m.astream("x"):
            pass

    def run_in_thread():
        with mellea.traces.start("thread"):
            m.instruct("x")

    async def on_loop(name):
        async with mellea.traces.start(name):
            await stream()

    thread = threading.Thread(target=run_in_thread)
    thread.start()
    thread.join()
    asyncio.run(on_loop("asyncio"))
    asyncio.run(on_loop("second loop"))
    trio.run(on_loop, "trio")
    with mellea.traces.start("agent"):
        mellea.Agent(m, [], name="helper").run("x")
"""


def test_a_receiver_gets_whole_trees_of_threads_loops_trio_and_agents(receiver: Receiver) -> None:
    pytest.importorskip("trio")
    endpoint = f"http://127.0.0.1:{receiver.server_port}"
    run(EVERY_WAY, MELLEA_TELEMETRY="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    spans = {span.span_id: span for span in receiver.spans}

    def path(span: Any) -> str:
        above = spans.get(span.parent_span_id)
        return span.name if above is None else f"{path(above)} > {span.name}"

    ways = ["thread", "asyncio", "second loop", "trio"]
    inside = ["agent > invoke_agent helper > step 1 > chat script"]
    leaves = [path(span) for span in spans.values() if span.name == "chat script"]
    assert sorted(leaves) == sorted([*[f"{way} > chat script" for way in ways], *inside])
    assert len({span.trace_id for span in spans.values()}) == 5


WEB = """
    import socket, threading, urllib.request
    import mellea, uvicorn
    from mellea import serve
    from mellea.testing import ScriptedBackend

    m = mellea.start_session(ScriptedBackend("red, and blue", "red, and blue"))

    @mellea.trace(name="answer")
    async def answer():
        async for chunk in m.astream("x"):
            yield chunk

    async def app(scope, receive, send):
        make = serve.ui if scope["path"] == "/ui" else serve.text
        await make(answer())(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    for path in ("text", "ui"):
        with urllib.request.urlopen(f"http://127.0.0.1:{listener.getsockname()[1]}/{path}") as response:
            assert b"blue" in response.read()
    server.should_exit = True
    thread.join()
"""


def test_a_receiver_gets_the_spans_of_web_streams(receiver: Receiver) -> None:
    pytest.importorskip("uvicorn", reason="the extra serve isn't installed")
    run(WEB, MELLEA_TELEMETRY="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{receiver.server_port}")
    spans = {span.span_id: span for span in receiver.spans}
    above = [(spans[span.parent_span_id].name, span.name) for span in spans.values() if span.parent_span_id]
    assert above == [("answer", "chat script")] * 2
    assert len({span.trace_id for span in spans.values()}) == 2


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_collector_that_takes_nothing_holds_up_no_end_and_no_key_is_logged(is_silent: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not is_silent:
            server.close()
        environment = {
            "MELLEA_TELEMETRY": "otlp",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://ada:sesame@127.0.0.1:{port}/?key=planted",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://ada:sesame@127.0.0.1:{port}/?key=planted",
        }
        timed = textwrap.dedent(PROGRAM) + textwrap.dedent("""
            import atexit, time
            from mellea.telemetry import switch
            atexit.unregister(switch._leave)
            began = time.monotonic()
            switch._leave()
            # Alone, the exporters would try for 10 s each.
            assert time.monotonic() - began < 8, time.monotonic() - began
        """)
        done = run(timed, **environment)
    assert "telemetry: not everything was sent" in done.stderr
    assert "sesame" not in done.stderr and "planted" not in done.stderr


def test_the_console_is_stderr_and_has_a_line_a_span() -> None:
    done = run(PROGRAM, MELLEA_TELEMETRY="console")
    assert done.stdout == "" and "correct horse" not in done.stderr
    assert [line.split("  ")[0] for line in done.stderr.splitlines()] == [
        *("chat script", "check", "attempt 1", "chat script", "check", "attempt 2"),
        *("invoke_workflow pick", "answer", "program"),
    ]


@pytest.mark.parametrize("value", ["", "0", "off", "nonsense"])
def test_what_switches_nothing_on_imports_nothing(value: str) -> None:
    program = """
        import sys
        import mellea
        from mellea.core.observer import listening
        assert not [name for name in sys.modules if name.startswith("opentelemetry")] and not listening.count
    """
    done = run(program, MELLEA_TELEMETRY=value)
    assert ("it takes 'otlp' or 'console', not 'nonsense'" in done.stderr) == (value == "nonsense")


def test_importing_mellea_and_calling_a_model_imports_no_telemetry() -> None:
    run(
        """
        import sys
        import mellea
        from mellea.testing import ScriptedBackend
        mellea.start_session(ScriptedBackend("x")).instruct("x")
        unwanted = ("opentelemetry", "mellea.telemetry", "mellea.core.prices")
        loaded = [name for name in sys.modules if name.startswith(unwanted)]
        assert not loaded, loaded
        """,
        MELLEA_TELEMETRY="",
    )


def test_without_the_extra_the_error_says_how_to_get_it_and_the_environment_only_warns() -> None:
    program = """
        import sys
        sys.modules["opentelemetry"] = None  # as if it weren't installed
        import mellea
        from mellea.errors import MissingExtraError
        try:
            mellea.telemetry.enable()
        except MissingExtraError as error:
            assert "pip install 'mellea[telemetry]'" in str(error), error
        else:
            raise AssertionError("no error")
        with mellea.traces.start("works") as t:
            pass
        assert str(t.tree(figures=False)) == "works (trace)"
    """
    done = run(program, MELLEA_TELEMETRY="otlp")
    assert done.stderr.count("MELLEA_TELEMETRY has no effect") == 1 and "mellea[telemetry]" in done.stderr


def test_the_programs_own_providers_are_used_and_what_is_enabled_again_replaces_what_was() -> None:
    first, second = Seen(), Seen()
    m, before = mellea.start_session(ScriptedBackend("x")), listening.count
    try:
        mellea.telemetry.enable(tracer_provider=first.tracers)
        m.instruct("x")
        mellea.telemetry.enable(tracer_provider=second.tracers)
        m.instruct("x")
    finally:
        mellea.telemetry.disable()
    m.instruct("x")
    assert len(first.spans) == len(second.spans) == 1 and listening.count == before


@pytest.mark.parametrize("has_tracer", [False, True])
def test_a_program_that_has_set_up_metrics_alone_keeps_them(has_tracer: bool) -> None:
    run(
        f"""
        import mellea
        from mellea.testing import ScriptedBackend
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider

        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        if {has_tracer}:
            trace.set_tracer_provider(TracerProvider())
        mellea.telemetry.enable()
        mellea.start_session(ScriptedBackend("x")).instruct("x")
        assert "gen_ai.client.operation.duration" in reader.get_metrics_data().to_json()
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )


def test_a_span_that_is_open_when_telemetry_is_switched_off_is_ended() -> None:
    seen = Seen()
    mellea.telemetry.enable(tracer_provider=seen.tracers)
    with mellea.traces.start("x"):
        mellea.telemetry.disable()
    assert [span.name for span in seen.spans] == ["x"]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="'otlp', 'console' or None, not 'file'"):
        mellea.telemetry.enable("file")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="can't be combined with a provider"):
        mellea.telemetry.enable("otlp", tracer_provider=Seen().tracers)
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider"])
def test_what_is_no_provider_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} takes a provider of OpenTelemetry, .* not 'x'"):
        mellea.telemetry.enable(**{name: "x"})


def test_a_forked_child_traces_what_it_begins_itself() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    done = run(
        """
        import os, sys
        import mellea
        from mellea.testing import ScriptedBackend

        m = mellea.start_session(ScriptedBackend("x"))
        with mellea.traces.start("parent"):
            child = os.fork()
            if not child:
                m.instruct("x", name="in the child")
                sys.stderr.flush()
                os._exit(0)
            os.waitpid(child, 0)
        """,
        MELLEA_TELEMETRY="console",
    )
    assert [line.split("  ")[0] for line in done.stderr.splitlines()] == ["chat script", "parent"]


@pytest.mark.parametrize("switch", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"])
def test_a_protocol_that_cant_be_spoken_is_said_in_words(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setenv(switch, "http/json")
    with pytest.raises(ConfigurationError, match=f"{switch} takes 'http/protobuf' or 'grpc', not 'http/json'"):
        mellea.telemetry.enable("otlp")
    monkeypatch.setenv(switch, "grpc")
    monkeypatch.setitem(sys.modules, "grpc", None)
    for module in [name for name in sys.modules if "otlp.proto.grpc" in name]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingExtraError, match="pip install opentelemetry-exporter-otlp-proto-grpc"):
        mellea.telemetry.enable("otlp")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.thorough
def test_no_log_has_a_header_or_a_password_that_the_environment_has_for_the_exporter(protocol: str) -> None:
    if protocol == "grpc":
        pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")
    program = """
        import logging
        logging.basicConfig(level=logging.DEBUG)
        import mellea
        from mellea.testing import ScriptedBackend
        mellea.telemetry.enable()
        mellea.start_session(ScriptedBackend("a")).instruct("x")
        mellea.telemetry.disable()
    """
    done = run(
        program,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://ada:opensesame@127.0.0.1:9",
        OTEL_EXPORTER_OTLP_HEADERS="x-key planted-one,y-key=planted-two",
    )
    assert "Header format invalid" in done.stderr and "not everything was sent" in done.stderr
    assert "planted" not in done.stderr and "opensesame" not in done.stderr
