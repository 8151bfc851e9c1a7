"""The notebooks of the tutorial: in step with the chapters, and run in a kernel as a reader runs them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.fences import ROOT
from tests.soak import is_thorough

NOTEBOOKS = sorted((ROOT / "docs" / "examples" / "notebooks").glob("*.ipynb"))
CHAPTERS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
SECONDS = 120
QUICK = "03_generative_functions"
"""The one that is run where a person waits; CI runs all of them."""

WHY = "the group notebooks isn't installed"


def test_each_chapter_has_its_notebook() -> None:
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in CHAPTERS]


def test_the_notebooks_are_in_step_with_the_chapters() -> None:
    pytest.importorskip("jupytext", reason=WHY)
    command = [sys.executable, "scripts/notebooks", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stderr


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """One kernel for all of them, with its manager and a client, in a folder where nothing is."""
    pytest.importorskip("ipykernel", reason=WHY)
    managers = pytest.importorskip("jupyter_client.manager", reason=WHY)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("jupyter")))
        patch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        patch.delenv("MELLEA_MODEL", raising=False)
        folder = tmp_path_factory.mktemp("notebooks")
        manager, client = managers.start_new_kernel(kernel_name="python3", startup_timeout=60, cwd=str(folder))
        try:
            yield manager, client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(kernel: tuple[Any, Any], path: Path) -> None:
    if path.stem != QUICK and not is_thorough():
        pytest.skip("run with MELLEA_SOAK=1, as CI does")
    nbclient = pytest.importorskip("nbclient", reason=WHY)
    import nbformat

    manager, client = kernel
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    runner = nbclient.NotebookClient(notebook, km=manager, timeout=SECONDS)
    runner.kc = client
    runner.execute(reset_kc=False)
    manager.restart_kernel(now=True)  # what a notebook has changed in the library, such as templates, ends with it
    client.wait_for_ready(timeout=60)
    problems = [output for cell in notebook.cells for output in cell.get("outputs", []) if _is_problem(output)]
    assert not problems, problems


def _is_problem(output: Any) -> bool:
    return bool(output.output_type == "error" or output.get("name") == "stderr")


# -- what a reader does in between ------------------------------------------------------------------------

START = """
import mellea
from mellea.notebook import ashow, show
from mellea.testing import Pause, ScriptedBackend
m = mellea.start_session(ScriptedBackend(["Once", Pause(0.5), " upon a time"]))


def begin(request):
    open(BEGUN, "w").close()
    return ["Once", Pause(3600), " upon a time"]


slow = mellea.start_session(ScriptedBackend(begin))
"""


def run(client: Any, code: str) -> dict[str, Any]:
    """Run a cell and return how it ended, with what it showed."""
    outputs: list[dict[str, Any]] = []
    reply = client.execute_interactive(code, timeout=60, output_hook=lambda message: outputs.append(message))
    return {"status": reply["content"]["status"], "error": reply["content"].get("evalue"), "outputs": outputs}


def printed(done: dict[str, Any]) -> str:
    assert done["status"] == "ok", done["error"]
    return "".join(message["content"]["text"] for message in done["outputs"] if message["msg_type"] == "stream")


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A file that is there as soon as the slow model was asked."""
    return tmp_path / "begun"


@pytest.fixture
def cell(kernel: tuple[Any, Any], begun: Path) -> Any:
    """Run cells in a kernel that has two sessions: `m`, which answers, and `slow`, which begins to."""
    client = kernel[1]
    assert run(client, f"BEGUN = {str(begun)!r}\n{START}")["status"] == "ok"
    return lambda code: run(client, code)


@pytest.mark.parametrize(
    "code",
    [
        "print(m.instruct('Write').value)",
        "print((await m.ainstruct('Write')).value)",
        "print(''.join(m.stream('Write')))",
        "print(''.join([piece async for piece in m.astream('Write')]))",
        "thunk = await m.ainstruct('Write', await_result=False); print(await thunk.avalue())",
    ],
    ids=["verb", "awaited verb", "stream", "async stream", "thunk"],
)
def test_plain_and_async_code_both_run_in_a_cell(cell: Any, code: str) -> None:
    """In the kernel's event loop, which already runs."""
    assert printed(cell(code)) == "Once upon a time\n"


def test_a_cell_may_run_on_trio(cell: Any) -> None:
    pytest.importorskip("trio")
    assert cell("%autoawait trio")["status"] == "ok"
    asked = "import trio\nawait trio.lowlevel.checkpoint()\nprint((await m.ainstruct('Write')).value)"
    assert printed(cell(asked)) == "Once upon a time\n"
    assert cell("%autoawait asyncio")["status"] == "ok"
    assert printed(cell("print((await m.ainstruct('Write')).value)")) == "Once upon a time\n"


@pytest.mark.parametrize(
    "code",
    [
        "slow.instruct('Write')",
        "await slow.ainstruct('Write')",
        "for piece in slow.stream('Write'): pass",
        "async for piece in slow.astream('Write'): pass",
        "show(slow.stream('Write'))",
        "await ashow(slow.astream('Write'))",
        "%autoawait trio\nawait slow.ainstruct('Write')",  # two cells: the first chooses for the second
        # The cell's own code is at work when the interrupt comes, and a variable still holds the stream.
        "import time\nstream = slow.stream('Write')\nfor piece in (kept := stream): time.sleep(60)",
        "import asyncio\nthunk = await slow.ainstruct('Write', await_result=False); await asyncio.sleep(60)",
        "import asyncio\ntask = asyncio.create_task(slow.ainstruct('Write')); await asyncio.sleep(60)",
        "thunk = await slow.ainstruct('Write', await_result=False); show(thunk); await thunk",
    ],
)
def test_interrupting_a_cell_stops_the_model_and_the_session_goes_on(
    kernel: tuple[Any, Any], cell: Any, begun: Path, code: str
) -> None:
    manager, client = kernel
    follow = """
from mellea import Observer, observe
spans = []
class Follow(Observer):
    def begin(self, span):
        spans.append(span)
following = observe(Follow())
following.__enter__()
"""
    assert cell(follow)["status"] == "ok"
    *before, last = code.split("\n")
    assert all(cell(line)["status"] == "ok" for line in before)
    client.execute(last, stop_on_error=False)
    end = time.monotonic() + SECONDS
    while not begun.exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)  # the model has been asked, and the cell waits for it
    manager.interrupt_kernel()
    ended = "import time\nend = time.monotonic() + 10\n"
    ended += "while any(span.ended is None for span in spans) and time.monotonic() < end: time.sleep(0.01)\n"
    ended += "print(len(spans) > 0, all(span.ended is not None for span in spans), {span.status for span in spans})"
    assert printed(cell("following.__exit__(None, None, None)\n" + ended)) == "True True {'cancelled'}\n"
    assert cell("%autoawait asyncio")["status"] == "ok"
    assert printed(cell("slow.backend.__init__('Fine.'); print(slow.instruct('Write').value)")) == "Fine.\n"


@pytest.mark.parametrize("code", ["await slow.ainstruct('Write')", "async for piece in slow.astream('Write'): pass"])
def test_a_cell_that_awaits_a_silent_model_ends_when_it_is_interrupted(
    kernel: tuple[Any, Any], cell: Any, begun: Path, code: str
) -> None:
    manager, client = kernel
    asked = client.execute(code, stop_on_error=False)
    end = time.monotonic() + SECONDS
    while not begun.exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(1)  # nothing happens in the kernel's loop, and nothing will
    manager.interrupt_kernel()
    # No other request is sent, which would wake the loop.
    while (reply := client.get_shell_msg(timeout=SECONDS))["parent_header"].get("msg_id") != asked:
        continue
    assert reply["content"]["status"] == "error"


def test_interrupting_a_cell_leaves_alone_what_earlier_cells_have_started(kernel: tuple[Any, Any], cell: Any) -> None:
    manager, client = kernel
    start = "import asyncio, time\nkept = await slow.ainstruct('Write', await_result=False)\n"
    start += "async def ask():\n    await asyncio.sleep(1)\n    return await m.ainstruct('Write')\n"
    assert cell(start + "task = asyncio.create_task(ask())")["status"] == "ok"
    client.execute("print('here', flush=True); await asyncio.sleep(60)", stop_on_error=False)
    while "here" not in str(client.get_iopub_msg(timeout=SECONDS)["content"].get("text")):
        continue
    manager.interrupt_kernel()
    assert printed(cell("print((await task).value + ',', await kept.astream())")) == "Once upon a time, Once\n"
    assert cell("await kept.cancel()")["status"] == "ok"


def shown(done: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    assert done["status"] == "ok", done["error"]
    return [message["content"] for message in done["outputs"] if message["msg_type"] == kind]


def test_a_value_in_the_last_line_shows_itself(cell: Any) -> None:
    [result] = shown(cell("m.instruct('Write')"), "execute_result")
    assert "Once upon a time" in result["data"]["text/html"]
    assert "Once upon a time" in result["data"]["text/plain"]


def test_a_value_of_another_library_is_shown_in_its_own_form(cell: Any) -> None:
    table = "class Table:\n    def _repr_html_(self):\n        return '<table></table>'\nshow(Table())"
    [display] = shown(cell(table), "display_data")
    assert display["data"]["text/html"] == "<table></table>"


def test_a_stream_is_shown_while_it_is_written(cell: Any) -> None:
    done = cell("stream = m.stream('Write'); show(stream)")
    [first] = shown(done, "display_data")
    updates = shown(done, "update_display_data")
    place = first["transient"]["display_id"]
    assert {update["transient"]["display_id"] for update in updates} == {place}
    texts = [update["data"]["text/plain"] for update in [first, *updates]]
    assert any("streaming" in text and "upon" not in text for text in texts), texts
    assert "done" in texts[-1] and texts[-1].endswith("Once upon a time")
    assert printed(cell("print(stream.result.value)")) == "Once upon a time\n"


def test_a_thunk_is_shown_without_waiting_for_it(cell: Any) -> None:
    done = cell("thunk = await slow.ainstruct('Write', await_result=False); show(thunk); print(thunk.is_computed())")
    assert printed(done) == "False\n"
    [first] = shown(done, "display_data")
    assert "done" not in first["data"]["text/plain"]
    assert cell("await thunk.cancel()")["status"] == "ok"


def test_many_small_pieces_are_few_drawings(cell: Any) -> None:
    pieces = "m = mellea.start_session(ScriptedBackend([step for _ in range(100) for step in ('a', Pause(0.005))]))\n"
    done = cell(
        f"import time\n{pieces}began = time.monotonic(); show(m.stream('Write')); took = time.monotonic() - began"
    )
    seconds = float(printed(cell("print(took)")))
    drawings = len(shown(done, "display_data")) + len(shown(done, "update_display_data"))
    assert drawings <= seconds * 10 + 2


MAP = """
mapped = mellea.MelleaSession(ScriptedBackend(lambda request: [Pause(0.5), "fine"]))
rows = [str(number) for number in range(8)]
"""


@pytest.mark.parametrize(
    "code",
    [
        "for row in mellea.map(mapped.instruct, rows, concurrency=2): pass",
        "async for row in mellea.amap(mapped.instruct, rows, concurrency=2): pass",
    ],
    ids=["map", "amap"],
)
def test_a_map_shows_its_progress_in_its_cell(cell: Any, code: str) -> None:
    assert cell(MAP)["status"] == "ok"
    done = cell(code)
    [first] = shown(done, "display_data")
    texts = [update["data"]["text/plain"] for update in [first, *shown(done, "update_display_data")]]
    assert texts[0].startswith("mellea.instruct · running · ") and " of 8 rows" in texts[0]
    assert texts[-1].startswith("mellea.instruct · done · 8 of 8 rows · ")
    assert printed(done) == "", "nothing goes to stderr"


def test_an_interrupted_map_says_that_it_stopped(kernel: tuple[Any, Any], cell: Any) -> None:
    manager, client = kernel
    assert cell(MAP)["status"] == "ok"
    code = "import time\nfor row in mellea.map(mapped.instruct, rows * 100, concurrency=1): time.sleep(0.1)"
    asked = client.execute(code, stop_on_error=False)
    texts: list[str] = []
    while not any("stopped" in text for text in texts):
        message = client.get_iopub_msg(timeout=SECONDS)
        if message["msg_type"] in ("display_data", "update_display_data"):
            texts.append(message["content"]["data"]["text/plain"])
            if len(texts) == 2:
                manager.interrupt_kernel()
    while client.get_shell_msg(timeout=SECONDS)["parent_header"].get("msg_id") != asked:
        continue
    assert " of 800 rows" in texts[-1]


def test_a_map_in_a_variable_ends_with_the_cell_that_began_it(kernel: tuple[Any, Any], cell: Any) -> None:
    """An interrupt in the cell's own code, which the map doesn't notice: no row may fail for it, one by one."""
    manager, client = kernel
    assert cell(MAP)["status"] == "ok"
    code = "import time\nkept = mellea.map(mapped.instruct, rows * 20, concurrency=2)\n"
    code += "for row in kept:\n    print('here', flush=True)\n    time.sleep(30)"
    client.execute(code, stop_on_error=False)
    while "here" not in str(client.get_iopub_msg(timeout=SECONDS)["content"].get("text")):
        continue
    manager.interrupt_kernel()
    read = "found = []\ntry:\n    for row in kept: found.append(row)\n"
    read += "except mellea.errors.GenerationCancelledError as error: print('interrupted' in str(error))\n"
    read += "print([row.error for row in found if row.error])"
    assert printed(cell(read)) == "True\n[]\n"


def test_two_cells_show_their_own(cell: Any) -> None:
    """A task of an earlier cell that still runs draws into its own output."""
    start = "import asyncio\nasync def ask():\n    await ashow(m.astream('Write'))\n"
    [first] = shown(cell(f"{start}task = asyncio.create_task(ask()); await asyncio.sleep(0.1)"), "display_data")
    done = cell("await asyncio.gather(ashow(m.astream('Write')), task)")
    [second] = shown(done, "display_data")
    places = [first["transient"]["display_id"], second["transient"]["display_id"]]
    assert places[0] != places[1]
    last = {each["transient"]["display_id"]: each["data"]["text/plain"] for each in shown(done, "update_display_data")}
    assert last[places[1]].endswith("Once upon a time")


def test_a_trace_is_followed_in_its_cell(cell: Any) -> None:
    done = cell("with mellea.traces.start('story') as t:\n    show(t)\n    m.instruct('Write')")
    [first] = shown(done, "display_data")
    assert first["data"]["text/plain"].startswith("Trace story · running · 1 span")
    end = "import time\ntime.sleep(0.5)"
    updates = [*shown(done, "update_display_data"), *shown(cell(end), "update_display_data")]
    assert any("running · 2 spans" in update["data"]["text/plain"] for update in updates)
