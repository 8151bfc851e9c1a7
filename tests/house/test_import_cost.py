"""`import mellea` is cheap, starts no thread, and loads nothing that isn't used yet; nor does a call for plain text."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

LIMIT_SECONDS = 0.1
NOT_LOADED = ("anyio", "httpx", "jinja2", "pydantic", "trio", "xllamacpp")

NOT_LOADED_FOR_TEXT = (
    "httpx",
    "jinja2",
    "mellea._mellea_08",
    "mellea.core.progress",
    "mellea.core.structured",
    "mellea.stdlib.components.repair",
    "mellea.stdlib.tools.policy",
    "mellea.stdlib.tools.tool_loop",
    "mellea.telemetry",
    "pydantic",
)

PROBE = """
import json, sys, threading, time
before = time.perf_counter()
import mellea
seconds = time.perf_counter() - before
print(json.dumps({"seconds": seconds, "threads": threading.active_count(), "modules": list(sys.modules)}))
"""


@cache
def _probe() -> dict[str, Any]:
    """The import in fresh interpreters: the best of seven, since the machine may be busy."""
    runs = [json.loads(_python("-c", PROBE).stdout) for _ in range(7)]
    return min(runs, key=lambda run: float(run["seconds"]))


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)


def test_importing_mellea_is_fast() -> None:
    seconds = _probe()["seconds"]
    assert seconds <= LIMIT_SECONDS, f"`import mellea` takes {seconds:.3f} s; the dearest imports:\n{_dearest()}"


def _dearest() -> str:
    report = _python("-X", "importtime", "-c", "import mellea").stderr.splitlines()[1:]
    return "\n".join(sorted(report, key=lambda line: -int(line.split("|")[1]))[:15])


def test_importing_mellea_starts_no_thread() -> None:
    assert _probe()["threads"] == 1


def test_importing_mellea_loads_only_what_it_needs() -> None:
    loaded = [package for package in NOT_LOADED if package in _probe()["modules"]]
    assert not loaded, (
        f"`import mellea` loads {loaded}; `python -X importtime -c 'import mellea'` shows by way of which module. "
        "The front door loads a name on its first use"
    )


CALL = """
import json, sys
import mellea
from mellea.backends.openai import OpenAIBackend
from mellea.errors import BackendError
m = mellea.MelleaSession(OpenAIBackend("m", base_url="http://127.0.0.1:9/v1", api_key="", retries=0))
try:
    m.instruct("Write about {{topic}}.", user_variables={"topic": "a lighthouse"})
except BackendError:
    print(json.dumps(list(sys.modules)))
"""


def test_a_call_for_plain_text_loads_only_what_it_needs() -> None:
    modules = json.loads(_python("-c", CALL).stdout)
    loaded = [package for package in NOT_LOADED_FOR_TEXT if package in modules]
    assert not loaded, f"a call for plain text loads {loaded}, which is waited for before the first text"
