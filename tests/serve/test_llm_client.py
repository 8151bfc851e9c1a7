"""`llm`, the command line client by Simon Willison, against a served application, over a socket."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.serve import app
from mellea.testing import ScriptedBackend
from tests.peers import Peer
from tests.serving import served

pytestmark = [Peer("llm").needed, pytest.mark.filterwarnings("ignore")]  # warnings of its own

KEY = "the-servers-key"
CITY = {"name": "Lund", "people": 94000}


def _reply(request: Any) -> Any:
    said = [message for message in request.messages if message.role == "user"]
    if request.output_schema is not None:
        return json.dumps(CITY)
    if said[-1].text == "fail":
        return mellea.errors.WireError("planted-secret")
    system = next((message.text for message in request.messages if message.role == "system"), "")
    return [f"{len(said)}: ", said[-1].text, f" ({system})" if system else ""]


backend = ScriptedBackend(_reply)
session = mellea.start_session(backend)


@mellea.generative(session=session)
def colour(of: str) -> str:
    """Say the colour."""


Llm = Callable[..., Any]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llm]:
    """Run its commands in this process: each of its own takes seconds to start."""
    folder = tmp_path_factory.mktemp("llm")
    with served(app({"chat": session}, colour, key=KEY)) as port, pytest.MonkeyPatch.context() as patch:
        named = "supports_schema: true\n  can_stream: true\n  api_key_name: served"
        models = "".join(
            f"- model_id: {name}\n  model_name: {name}\n  api_base: http://127.0.0.1:{port}/v1\n  {named}\n"
            for name in ("chat", "colour")
        )
        (folder / "extra-openai-models.yaml").write_text(models)
        (folder / "keys.json").write_text(json.dumps({"served": KEY}))
        # Nothing of the user's: no keys, no plug-ins (the package of the embedded model's weights is one), no log.
        patch.setenv("LLM_USER_PATH", str(folder))
        patch.setenv("LLM_LOAD_PLUGINS", "")
        from click.testing import CliRunner
        from llm.cli import cli

        def run(*arguments: str) -> Any:
            done = CliRunner().invoke(cli, arguments)
            # It leaves its connections to the collector, and the warning to whichever test runs then; where it failed,
            # the frames of its error hold them.
            done.exception = done.exc_info = None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            return done

        yield run


def test_a_prompt_is_answered_streamed_or_not(llm: Llm) -> None:
    for how in ((), ("--no-stream",)):
        done = llm("prompt", "-m", "chat", "Say it", "-s", "Be brief", "-o", "temperature", "0.5", *how)
        assert (done.exit_code, done.stdout.strip()) == (0, "1: Say it (Be brief)"), done.stderr
        assert backend.requests[-1].options["temperature"] == 0.5


def test_a_conversation_goes_on(llm: Llm) -> None:
    assert llm("prompt", "-m", "chat", "First").stdout.strip() == "1: First"
    done = llm("prompt", "-c", "Second")
    assert done.stdout.strip() == "2: Second", done.stderr
    assert [message.text for message in backend.requests[-1].messages] == ["First", "1: First", "Second"]


def test_a_function_is_a_model(llm: Llm) -> None:
    done = llm("prompt", "-m", "colour", "the sea")
    assert done.exit_code == 0 and "Say the colour." in str(backend.requests[-1].messages), done.stderr


def test_a_schema_is_held(llm: Llm) -> None:
    done = llm("prompt", "-m", "chat", "Lund", "--schema", "name, people int")
    assert json.loads(done.stdout) == CITY, done.stderr
    sent = backend.requests[-1].output_schema
    assert sent is not None and set(sent.schema["properties"]) == {"name", "people"}


def test_a_failure_is_told_without_its_content(llm: Llm) -> None:
    done = llm("prompt", "-m", "chat", "fail")
    assert done.exit_code != 0 and "the model's provider failed" in done.stderr
    assert "planted-secret" not in done.stderr
    unknown = llm("prompt", "-m", "chat", "x", "--key", "wrong")
    assert unknown.exit_code != 0 and "the key is missing or wrong" in unknown.stderr


def test_its_folder_is_its_own(llm: Llm) -> None:
    assert Path(llm("logs", "path").stdout.strip()).parent.name.startswith("llm")
