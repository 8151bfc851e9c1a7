"""The file that has the latest state, and the list of those that were resumed."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mellea.core import ToolCall, Usage
from mellea.core.events import ToolEnd
from mellea.errors import StateError, UsageError
from mellea.stdlib.agents import Agent, Pending, checkpoint
from mellea.stdlib.agents.checkpoint import CheckpointFile, replace_file
from mellea.stdlib.agents.resume_store import ResumeStore
from mellea.stdlib.agents.signing import Signer, check_signature
from mellea.stdlib.tools import Edited, ToolLoop, tool
from mellea.testing import ScriptedBackend


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    for text in ("first", "second, and longer", "3 ü"):
        replace_file(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_readers_see_one_text_or_the_other(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    texts = ["a" * 100_000, "b" * 100_000]
    replace_file(file, texts[0])
    is_over = threading.Event()

    def read() -> set[str]:
        seen = set()
        while not is_over.is_set():
            seen.add(file.read_text())
        return seen

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        writers = [pool.submit(lambda text=text: [replace_file(file, text) for _ in range(10)]) for text in texts]
        for writer in writers:
            writer.result()
        is_over.set()
        assert reader.result() <= set(texts)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    replace_file(file, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "\ud800")
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are others there")
def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    replace_file(tmp_path / "run.json", "x")
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600


# -- a run's states in it ----------------------------------------------------------------------------------


def call(name: str, number: int, **args: Any) -> ToolEnd:
    return ToolEnd(ToolCall(f"c{number}", name, args))


def look(place: str) -> str:
    """Look somewhere."""
    return f"a cat in {place}"


@tool(requires_approval=True)
def buy(what: str) -> str:
    """Buy something."""
    return f"bought {what}"


def make_states(steps: int = 3) -> list[Pending]:
    """Return the states of a run that has tools, a sub-agent that waits, answers and an answer that is corrected."""
    states: list[Pending] = []
    low = ScriptedBackend([call("look", 1, place="Rome")], [call("buy", 2, what="tea")], "Bought.", usage=Usage(3, 2))
    replies: list[Any] = [
        *([call("look", n, place=str(n)), call("look", n + 1, place="x")] for n in range(steps)),
        [call("buyer", 90, task="tea"), call("buy", 91, what="jam")],
        "five",
        "[5]",
    ]
    agent = Agent(
        ScriptedBackend(*replies, usage=Usage(3, 2)),
        [look, buy, Agent(low, [look, buy], name="buyer")],
        output=list[int],
    )
    run = agent.run("Do it.", checkpoint=states.append)
    assert run.pending is not None
    run = agent.resume(run.pending, {"c91": True, "c90/c2": Edited({"what": "two teas"})}, checkpoint=states.append)
    assert run.output == [5]
    return states


@pytest.mark.parametrize("secret", [None, b"secret"])
def test_the_file_has_each_state_as_it_is_written(tmp_path: Path, secret: bytes | None) -> None:
    file, signer = CheckpointFile(tmp_path / "run.json"), Signer(secret)
    states = make_states()
    assert any(state.state.nested for state in states) and any(state.state.answers for state in states)
    for state in states:
        file.write(signer.sign(state))
        written = Pending.from_json(file.path.read_bytes())
        assert written == Pending.from_json(file.path.read_text(encoding="utf-8"))
        assert written.to_json() == signer.sign(state).to_json()
        check_signature(written, secret)
    lines = file.path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(states), "each but the first is written as a change"


def test_a_file_that_was_cut_off_anywhere_has_the_last_whole_state(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "run.json")
    states = make_states(1)
    for state in states:
        file.write(state)
    data = file.path.read_bytes()
    ends = [place for place in range(len(data)) if data[place : place + 1] == b"\n"]
    for cut in range(ends[0], len(data) + 1):
        whole = sum(end < cut for end in ends) or 1
        assert Pending.from_json(data[:cut]).id == states[whole - 1].id


def test_the_bytes_of_a_run_grow_with_its_steps_and_not_with_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [0]
    replace, append = checkpoint.replace_file, checkpoint.CheckpointFile._append

    def count(path: Path, text: str) -> None:
        written[0] += len(text.encode())
        replace(path, text)

    def count_line(file: CheckpointFile, line: bytes) -> bool:
        written[0] += len(line)
        return append(file, line)

    monkeypatch.setattr(checkpoint, "replace_file", count)
    monkeypatch.setattr(checkpoint.CheckpointFile, "_append", count_line)
    monkeypatch.setattr(checkpoint, "_FEW", 1000)
    bytes_of: dict[tuple[int, bool], int] = {}
    for steps in (40, 160):
        for is_nested in (False, True):
            written[0] = 0
            replies = [[call("look", n, place=str(n))] for n in range(steps)]
            agent = Agent(ScriptedBackend(*replies, "Done."), [look], name="worker", loop=ToolLoop(steps + 1))
            if is_nested:
                agent = Agent(ScriptedBackend([call("worker", 1, task="x")], "Done."), [agent])
            assert agent.run("x", checkpoint=tmp_path / f"{steps}.json").value == "Done."
            bytes_of[steps, is_nested] = written[0]
    for is_nested in (False, True):
        # Four times the steps; where the whole is written again in between depends on the length.
        assert bytes_of[160, is_nested] < 5.5 * bytes_of[40, is_nested], bytes_of


def test_a_file_that_somebody_else_has_written_is_replaced(tmp_path: Path) -> None:
    one, other = make_states(1), make_states(2)
    file, second = CheckpointFile(tmp_path / "run.json"), CheckpointFile(tmp_path / "run.json")
    for here, there in zip(one, other, strict=False):
        file.write(here)
        assert Pending.from_json(file.path.read_bytes()).id == here.id
        second.write(there)
        assert Pending.from_json(file.path.read_bytes()).id == there.id
    file.path.unlink()
    file.write(one[0])
    assert Pending.from_json(file.path.read_bytes()).id == one[0].id
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda line: line.update(after="x"), "change 2 after the saved state belongs to another state"),
        (lambda line: line.pop("id"), "change 2 lacks the field 'id'"),
        (
            lambda line: line["change"]["messages"].update(keep=100),
            "change 2.change.messages changes a value that the state before it doesn't have",
        ),
        (lambda line: line["change"].update(steps={}), "change 2.change has the unknown field 'steps'"),
        (lambda line: line["change"].update(limit=[]), "change 2.change.limit should be a list with one value"),
        (
            lambda line: line["change"].update(nested={"change": {"z": {}}}),
            "change 2.change.nested changes a value that the state before it doesn't have",
        ),
        (
            lambda line: line["change"].update(outputs={"drop": ["z"]}),
            "change 2.change.outputs changes a value that the state before it doesn't have",
        ),
        (lambda line: line["change"].update(outputs={"set": {"z": 3}}), r"value.state.outputs\['z'\] is not an object"),
    ],
)
def test_a_damaged_change_is_refused_with_the_place(tmp_path: Path, damage: Any, said: str) -> None:
    file = CheckpointFile(tmp_path / "run.json")
    first, second, _, third, *_ = make_states()
    for state in (first, second, third):
        file.write(state)
    *lines, last = file.path.read_text(encoding="utf-8").splitlines()
    line = json.loads(last)
    damage(line)
    with pytest.raises(StateError, match=said):
        Pending.from_json("\n".join([*lines, json.dumps(line, separators=(",", ":")), ""]))
    with pytest.raises(StateError, match="change 2 after the saved state isn't JSON"):
        Pending.from_json("\n".join([*lines, last[:-5], ""]))


def test_a_changed_change_is_found_by_the_signature(tmp_path: Path) -> None:
    file, signer = CheckpointFile(tmp_path / "run.json"), Signer(b"secret")
    for state in make_states():
        file.write(signer.sign(state))
    text = file.path.read_text(encoding="utf-8")
    changed = text.replace("a cat in 1", "a dog in 1")
    assert changed != text
    with pytest.raises(StateError, match="was changed after it was signed"):
        check_signature(Pending.from_json(changed), b"secret")


# -- the store ---------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ResumeStore:
    return ResumeStore(tmp_path / "resumes.db")


def refused(store: ResumeStore, state: str) -> None:
    with pytest.raises(UsageError, match=f"the state '{state}' has already been resumed"):
        store.claim(state, "other", "run")


def test_a_state_whose_claim_was_used_cant_be_resumed_again(store: ResumeStore) -> None:
    store.claim("a", "b", "run")
    store.use("a", "b")
    refused(store, "a")
    store.claim("b", "c", "run")
    store.use("b", "c")
    refused(store, "b")


def test_a_claim_that_was_never_used_is_superseded_and_so_is_the_state_that_it_saved(store: ResumeStore) -> None:
    store.claim("a", "b", "run")  # killed here, perhaps after it has saved b
    store.claim("a", "c", "run")
    with pytest.raises(UsageError, match="has already been resumed"):
        store.use("a", "b")
    store.use("a", "c")
    refused(store, "b")
    store.claim("c", "d", "run")


def test_resuming_the_state_that_an_unused_claim_has_saved_uses_the_claim(store: ResumeStore) -> None:
    store.claim("a", "b", "run")  # killed here, after it has saved b
    store.claim("b", "c", "run")
    refused(store, "a")
    store.use("b", "c")


def test_of_many_that_claim_one_state_at_once_one_goes_on(tmp_path: Path) -> None:
    def resume(number: int) -> bool:
        store = ResumeStore(tmp_path / "resumes.db")
        try:
            store.claim("a", f"b{number}", "run")
            store.use("a", f"b{number}")
        except UsageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(resume, range(8))) == 1


def test_another_database_isnt_taken_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database " * 100)
    with pytest.raises(StateError, match="is not a valid SQLite database"):
        ResumeStore(tmp_path / "text.db").claim("a", "b", "run")
