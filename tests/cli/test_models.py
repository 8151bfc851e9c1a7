"""`mellea models` and `mellea doctor`: what can be asked, and why not the rest."""

import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mellea.backends.llama_cpp import weights
from mellea.cli import main, models
from tests.cli.openai_server import serving_model

CONTENT = b"GGUF" + bytes(100)


@pytest.fixture
def model(monkeypatch, tmp_path):
    monkeypatch.setenv("MELLEA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MELLEA_GGUF", raising=False)
    own = replace(
        weights.MODELS["smollm2-135m"],
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        distribution="no-such-distribution",
    )
    monkeypatch.setitem(weights.MODELS, "smollm2-135m", own)
    return own


def test_list(model, capsys, monkeypatch):
    monkeypatch.setattr(models, "list_provider_names", lambda: ["llama_cpp"])
    for arguments in (["models", "list", "--all"], ["models", "list"]):
        assert main(arguments) == 0
        out, note = capsys.readouterr()
        said = json.loads(out) if out else None
        assert bool(out) != ("none of 1 providers is set up" in note)
        assert said is None or (not said["is_reachable"] and "mellea models pull" in said["reason"])
    assert said is None, "what isn't set up is shown with --all alone"
    file = weights.find_cached_file(model)
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    for arguments in (["models", "list"], ["models"]):
        assert main(arguments) == 0
        said = json.loads(capsys.readouterr().out)
        assert said == {
            "provider": "llama_cpp",
            "is_configured": True,
            "is_reachable": True,
            "models": ["smollm2-135m"],
        }
    assert main(["models", "list", "llama_cpp"]) == 0
    assert capsys.readouterr().out == '"llama_cpp/smollm2-135m"\n'


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}).encode()
            self.send_response(200 if self.headers["Authorization"] == "Bearer good-key" else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_list_tells_what_can_be_reached_and_why_not_the_rest(server, capsys, monkeypatch):
    monkeypatch.setattr(models, "list_provider_names", lambda: ["groq", "openai", "vllm", "azure"])
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    monkeypatch.delenv("AZURE_OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "good-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
    assert main(["models", "list", "--all"]) == 0
    out, err = capsys.readouterr()
    groq, openai, vllm, azure = map(json.loads, out.splitlines())
    assert openai == {"provider": "openai", "is_configured": True, "is_reachable": True, "models": ["a", "b"]}
    assert "GROQ_API_KEY" in groq["reason"] and "AZURE_OPENAI_BASE_URL" in azure["reason"]
    assert not vllm["is_reachable"] and "9" in vllm["reason"] and err == "" and "good-key" not in out
    assert main(["models", "list"]) == 0
    assert [json.loads(line)["provider"] for line in capsys.readouterr().out.splitlines()] == ["openai"]
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-key-0123456789")
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    refused = json.loads(out)
    assert refused["is_configured"] and not refused["is_reachable"] and "401" in refused["reason"]
    assert "wrong-key" not in out
    monkeypatch.delenv("OPENAI_API_KEY")  # no key is needed here, but the server is there and wants one
    assert main(["models"]) == 0
    refused = json.loads(capsys.readouterr().out)
    assert refused["is_configured"] and "OPENAI_API_KEY" in refused["reason"]


def test_doctor_says_what_is_there_and_what_to_do(server, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "good-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    monkeypatch.setenv("MELLEA_MODEL", "openai/a")
    monkeypatch.setenv("MELLEA_TRACES", str(tmp_path / "runs.db"))
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    found = {each["what"]: each for each in map(json.loads, out.splitlines())}
    assert found["model"] == {"what": "model", "state": "ok", "detail": "openai/a"} and err == ""
    assert "OPENAI_API_KEY" in found["keys"]["detail"] and "good-key" not in out
    assert found["record"]["state"] == "ok" and not (tmp_path / "runs.db").exists()
    monkeypatch.setenv("MELLEA_MODEL", "openai/c")
    assert main(["doctor"]) == 1
    assert "has no model 'c'" in capsys.readouterr().out
    (tmp_path / "runs.db").write_text("no database" * 500)
    assert main(["doctor", "--json"]) == 1


def test_doctor_calls_an_address_wrong_at_which_no_model_answers(capsys, monkeypatch):
    with serving_model() as model:
        for name, value in model.environment.items():
            monkeypatch.setenv(name, value)
        for wrong in ("", "/v2"):
            monkeypatch.setenv("OPENAI_BASE_URL", model.environment["OPENAI_BASE_URL"].removesuffix("/v1") + wrong)
            assert main(["doctor"]) == 1
            found = {each["what"]: each for each in map(json.loads, capsys.readouterr().out.splitlines())}
            assert found["model"]["state"] == "wrong" and "base_url" in found["model"]["detail"]
        monkeypatch.setenv("OPENAI_BASE_URL", model.environment["OPENAI_BASE_URL"])
        assert main(["doctor"]) == 0


@pytest.mark.parametrize("arguments", [[], ["models", "burn"], ["nothing"], ["models", "pull", "a", "b"]])
def test_wrong_arguments(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().out == "" or not arguments, "without a command it shows the help"
