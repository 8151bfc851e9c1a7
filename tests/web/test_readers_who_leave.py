"""A client that closes its socket, and a cell that is interrupted: the model's server sees it within a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mellea
from tests.docs.fences import ROOT, fences
from tests.serving import read_and_leave, served
from tests.web.model_server import ModelServer

SECONDS = 30.0
"""Within which the model is told, on however busy a machine; it would write for two minutes."""


@pytest.fixture
def model() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


def _stream(m: mellea.MelleaSession) -> Any:
    return m.astream("Write")


def _events(m: mellea.MelleaSession) -> Any:
    async def body() -> Any:
        async for event in m.astream("Write").events():
            yield f"{event!r}\n"

    return body()


def _in_a_block(m: mellea.MelleaSession) -> Any:
    async def body() -> Any:
        async with m.astream("Write") as stream:
            async for piece in stream:
                yield piece.replace("*", "")

    return body()


@pytest.mark.parametrize("body", [_stream, _events, _in_a_block])
@pytest.mark.parametrize("is_plain", [False, True])
def test_a_client_that_leaves_stops_the_model(
    model: ModelServer, body: Callable[[mellea.MelleaSession], Any], is_plain: bool
) -> None:
    fastapi = pytest.importorskip("fastapi", reason="the group web isn't installed")
    from fastapi.responses import StreamingResponse

    m = mellea.start_session("openai", "m", base_url=model.url, api_key="k")
    app = fastapi.FastAPI()

    def plain() -> Any:
        return StreamingResponse(body(m), media_type="text/plain")

    async def native() -> Any:
        return plain()

    app.get("/x")(plain if is_plain else native)
    with served(app) as port:
        read_and_leave(port, "x", b"w3")
        assert model.wait_closed(SECONDS)


PAGE = ROOT / "docs" / "web.md"
ROUTES = [fence.code for fence in fences(PAGE) if "@app.get" in fence.code and "(topic: str)" in fence.code]


@pytest.mark.parametrize("code", ROUTES)
def test_the_routes_of_the_page_stop_the_model(model: ModelServer, code: str) -> None:
    pytest.importorskip("fastapi", reason="the group web isn't installed")
    page: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, str(PAGE), "exec"), page)
    page["m"] = mellea.start_session("openai", "m", base_url=model.url, api_key="k")
    path = code.partition('@app.get("/')[2].partition('"')[0]
    with served(page["app"]) as port:
        read_and_leave(port, f"{path}?topic=x", b"w3")
        assert model.wait_closed(SECONDS)


CELLS = {
    "plain": "for piece in m.stream('Write'): pass",
    "async": "async for piece in m.astream('Write'): pass",
    "events": "for event in m.stream('Write').events(): pass",
    "verb": "m.instruct('Write')",
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """One kernel for all cells, with its manager and a client: it goes on after each of them."""
    pytest.importorskip("ipykernel", reason="the group web isn't installed")
    manager_module = pytest.importorskip("jupyter_client.manager", reason="the group web isn't installed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
            monkeypatch.setenv(name, str(tmp_path_factory.mktemp("jupyter")))
        monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        manager, client = manager_module.start_new_kernel(kernel_name="python3", startup_timeout=60)
        try:
            yield manager, client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_an_interrupted_cell_stops_the_model_and_the_kernel_goes_on(
    model: ModelServer, kernel: tuple[Any, Any], cell: str
) -> None:
    manager, client = kernel
    start = f"import mellea; m = mellea.start_session('openai', 'm', base_url={model.url!r}, api_key='k')"
    assert client.execute_interactive(start, timeout=60, output_hook=_quiet)["content"]["status"] == "ok"
    client.execute(cell, stop_on_error=False)  # else the next cell is refused for a moment
    end = time.monotonic() + 30
    while not model.begun and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.3)
    manager.interrupt_kernel()
    assert model.wait_closed(SECONDS)
    assert client.execute_interactive("1 + 1", timeout=30, output_hook=_quiet)["content"]["status"] == "ok"


def _quiet(message: Any) -> None:
    """Print nothing."""
