"""`mellea models`, with an installer that puts what the test says where pip would."""

import hashlib
import json
import subprocess
from dataclasses import replace

import pytest

from mellea.backends.llama_cpp import weights
from mellea.cli import main, pull

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


@pytest.fixture
def installer(monkeypatch, model):
    class Installer:
        content, code, commands = CONTENT, 0, []

        def __call__(self, command, **options):
            self.commands.append(command)
            if self.content is not None:
                folder = pull.Path(command[command.index("--target") + 1]) / model.package
                folder.mkdir(parents=True)
                (folder / model.filename).write_bytes(self.content)
            return subprocess.CompletedProcess(command, self.code)

    installer = Installer()
    installer.commands = []
    monkeypatch.setattr(pull.subprocess, "run", installer)
    return installer


def test_pull_puts_the_file_into_the_cache_once(model, installer, capsys):
    assert main(["models", "pull"]) == 0
    file = weights.find_cached_file(model)
    assert capsys.readouterr().out == f"{file}\n"
    assert file.read_bytes() == CONTENT
    assert list(file.parent.iterdir()) == [file]
    assert main(["models", "pull", "smollm2-135m"]) == 0
    (command,) = installer.commands
    assert command[-1] == "no-such-distribution==0.1.2"
    assert "--no-deps" in command
    assert not any("://" in part for part in command)


@pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1] + b"x", None])
def test_a_wrong_file_is_refused_and_leaves_nothing(model, installer, content):
    installer.content = content
    assert main(["models", "pull"]) == 1
    assert not any(weights.find_cached_file(model).parent.iterdir())


def test_a_damaged_file_in_the_cache_is_fetched_again(model, installer):
    file = weights.find_cached_file(model)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half")
    assert main(["models", "pull"]) == 0
    assert file.read_bytes() == CONTENT


def test_an_installer_that_fails(model, installer):
    installer.code = 2
    assert main(["models", "pull"]) == 1
    assert not any(weights.find_cached_file(model).parent.iterdir())


def test_no_installer(model, monkeypatch, capsys):
    monkeypatch.setattr(pull.shutil, "which", lambda name: None)
    monkeypatch.setattr(pull, "find_spec", lambda name: None)
    assert main(["models", "pull"]) == 1
    assert "neither uv nor pip" in capsys.readouterr().err


def test_pip_where_there_is_no_uv(model, installer, monkeypatch):
    monkeypatch.setattr(pull.shutil, "which", lambda name: None)
    monkeypatch.setattr(pull, "find_spec", lambda name: object())
    assert main(["models", "pull"]) == 0
    assert installer.commands[0][1:4] == ["-m", "pip", "install"]


def test_an_unknown_model(capsys):
    assert main(["models", "pull", "nope"]) == 1
    assert capsys.readouterr().err == "mellea: no model is called 'nope'; known are 'smollm2-135m'\n"


def test_a_cache_that_cannot_be_written(model, installer, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MELLEA_CACHE", str(tmp_path / "file"))
    assert main(["models", "pull"]) == 1


def test_list(model, capsys):
    for arguments in (["models", "list"], ["models"]):
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out) == {"model": "smollm2-135m", "path": None}
    file = weights.find_cached_file(model)
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert main(["models", "list"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "smollm2-135m", "path": str(file)}


@pytest.mark.parametrize("arguments", [[], ["models", "burn"], ["nothing"], ["models", "pull", "a", "b"]])
def test_wrong_arguments(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().out == "" or not arguments, "without a command it shows the help"


def test_ctrl_c(model, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pull.subprocess, "run", interrupt)
    monkeypatch.setattr(pull, "_find_installer", lambda: ["x"])
    assert main(["models", "pull"]) == 130
