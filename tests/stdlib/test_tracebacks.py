"""An error is printed once and short: the frames of the program, none of ours, and a cause only where it is news."""

from __future__ import annotations

import copy
import gc
import logging
import os
import pickle
import subprocess
import sys
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pydantic
import pytest

import mellea
from mellea import errors
from mellea.backends.openai import OpenAIBackend
from mellea.core import Backend, Component, ToolCall
from mellea.core.events import TextDelta, ToolEnd, ToolStart
from mellea.stdlib import functional
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.sampling import MajorityVotingStrategy
from mellea.testing import Pause, ScriptedBackend

PACKAGE = str(Path(mellea.__file__).parent)

CHAINED = ("direct cause of the following", "another exception occurred")


def check_short(error: BaseException, kind: type[BaseException], *, frames: int = 0, lines: int = 16) -> str:
    """Look at an error as the interpreter would print it, and return that."""
    assert type(error) is kind, repr(error)
    text = "".join(traceback.format_exception(error))
    assert text.count(f'File "{PACKAGE}') <= frames, text
    assert len(text.splitlines()) <= lines, text
    said = "\n".join(line for line in text.splitlines() if not line.startswith("    "))  # without lines of code
    assert said.count(str(error).splitlines()[0]) == 1, text
    assert sum(text.count(words) for words in CHAINED) <= 1, text
    for note in getattr(error, "__notes__", ()):
        assert said.count(note) == 1, text
    return text


def raised_by(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("no error")


async def araised_by(call: Callable[[], Any]) -> BaseException:
    try:
        await call()
    except Exception as error:
        return error
    raise AssertionError("no error")


# -- what goes wrong ------------------------------------------------------------------------------------------


class Numbers(pydantic.BaseModel):
    a: int
    b: int
    c: list[int]
    d: int


def typo(context: Any) -> bool:
    return contxt.last_output() is None  # type: ignore[name-defined]  # noqa: F821


def never(text: str) -> bool:
    return False


def scripted(*replies: Any, **settings: Any) -> mellea.MelleaSession:
    return mellea.start_session(ScriptedBackend(*replies, **settings))


def wrong_key() -> mellea.MelleaSession:
    refusal = httpx.Response(401, json={"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: refusal))
    return mellea.start_session(OpenAIBackend("gpt-5", client=client, api_key="sk-wrong"))


def refused() -> mellea.MelleaSession:
    return mellea.start_session(OpenAIBackend("gpt-5", base_url="http://127.0.0.1:9", api_key="k", retries=0))


WRONG_NUMBERS = '{"a": "x", "b": "y", "c": ["z"], "d": "q"}'

Make = Callable[[], mellea.MelleaSession]

KINDS: dict[str, tuple[Make, dict[str, Any], type[BaseException]]] = {
    "usage": (lambda: scripted("x"), {"nonsense": 1}, errors.UsageError),
    "option": (lambda: scripted("x"), {"model_options": {"tempratur": 1}}, errors.UsageError),
    "401": (wrong_key, {}, errors.AuthError),
    "refused": (refused, {}, errors.ConnectError),
    "interrupted": (lambda: scripted("so far", is_cut=True), {}, errors.InterruptedStreamError),
    "deadline": (
        lambda: scripted(["so", Pause(5), "far"]),
        {"model_options": {"timeout": 0.02}},
        errors.DeadlineError,
    ),
    "parse": (lambda: scripted("abc"), {"format": int}, errors.ParseError),
    "parse of a model": (lambda: scripted(WRONG_NUMBERS), {"format": Numbers}, errors.ParseError),
    "strict": (
        lambda: scripted("abc"),
        {"requirements": [req("Be short.", validation_fn=simple_validate(never))], "strict": True},
        errors.RequirementError,
    ),
    "variable": (lambda: scripted("x"), {"user_variables": {"other": 1}}, errors.UsageError),
}


async def aread(reader: AsyncIterator[Any]) -> None:
    async for _ in reader:
        pass


def read(reader: Iterator[Any]) -> None:
    for _ in reader:
        pass


@pytest.mark.parametrize("name", KINDS)
def test_a_plain_program_sees_its_own_line_and_one_message(name: str) -> None:
    make, arguments, kind = KINDS[name]
    task = task_of(name)
    rest = {key: value for key, value in arguments.items() if key != "format"}

    def output() -> None:
        stream = make().stream(task, **arguments)
        read(iter(stream))
        stream.output  # noqa: B018

    def result() -> None:
        stream = make().stream(task, **arguments)
        read(iter(stream))
        stream.result  # noqa: B018

    calls = {
        "instruct": lambda: make().instruct(task, **arguments),
        "functional": lambda: functional.instruct(task, mellea.ChatContext(), make().backend, **arguments),
        "ask": lambda: mellea.ask(task, session=make(), **arguments),
        "output": output,
        "result": result,
        "items": lambda: read(make().stream(task, format=list[int], **rest).items()),
        "partials": lambda: read(make().stream(task, format=Numbers, **rest).partials()),
    }
    if kind is not errors.ParseError:  # text is read all the same where it doesn't fit the format
        calls["text"] = lambda: read(iter(make().stream(task, **arguments)))
        calls["events"] = lambda: read(make().stream(task, **arguments).events())
        calls["ask.stream"] = lambda: read(iter(mellea.ask.stream(task, session=make(), **arguments)))
    for way, call in calls.items():
        error = raised_by(call)
        expected = kind if way not in ("items", "partials") or name != "strict" else type(error)
        check_short(error, expected, frames=1)


async def awaited(thunk: Any) -> None:
    await thunk


async def polled(thunk: Any) -> None:
    while True:
        await thunk.astream()


THUNK_READERS: dict[str, Callable[[Any], Any]] = {
    "await": awaited,
    "avalue": lambda thunk: thunk.avalue(),
    "astream": polled,
    "gather": lambda thunk: mellea.gather(thunk),
    "resolve": lambda thunk: mellea.resolve([thunk]),
    "async for": lambda thunk: aread(thunk.__aiter__()),
    "events": lambda thunk: aread(thunk.events()),
}


def task_of(name: str) -> str:
    return "Say {{ it }}." if name == "variable" else "Say it."


@pytest.mark.anyio
@pytest.mark.parametrize("name", KINDS)
async def test_an_async_program_sees_its_own_line_and_one_message(name: str) -> None:
    make, arguments, kind = KINDS[name]
    task = task_of(name)
    rest = {key: value for key, value in arguments.items() if key != "format"}

    async def output() -> None:
        stream = make().astream(task, **arguments)
        await aread(stream.__aiter__())
        stream.output  # noqa: B018

    calls: dict[str, Callable[[], Any]] = {
        "ainstruct": lambda: make().ainstruct(task, **arguments),
        "functional": lambda: functional.ainstruct(task, mellea.ChatContext(), make().backend, **arguments),
        "aask": lambda: mellea.aask(task, session=make(), **arguments),
        "output": output,
    }
    if name != "strict":  # which needs an answer of the asked type first
        calls["items"] = lambda: aread(make().astream(task, format=list[int], **rest).items())
        calls["partials"] = lambda: aread(make().astream(task, format=Numbers, **rest).partials())
    for call in calls.values():
        check_short(await araised_by(call), kind, frames=1)


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"strict"}))
@pytest.mark.parametrize("reader", THUNK_READERS)
async def test_a_reader_of_a_thunk_sees_its_own_line_and_one_message(name: str, reader: str) -> None:
    make, arguments, kind = KINDS[name]

    async def read_thunk() -> None:
        options = {"strategy": None, **arguments, "await_result": False}
        await THUNK_READERS[reader](await make().ainstruct(task_of(name), **options))

    check_short(await araised_by(read_thunk), kind, frames=1)


@mellea.generative
def count(what: str) -> int:
    """Count it."""


@mellea.command
def describe(what: str) -> str:
    return f"Describe {what}."


@mellea.generative
async def acount(what: str) -> int:
    """Count it."""


VERBS: dict[str, Callable[[mellea.MelleaSession], Any]] = {
    "chat": lambda m: m.chat("Hello"),
    "act": lambda m: m.act("Hello"),
    "query": lambda m: m.query({"a": 1}, "How many?"),
    "transform": lambda m: m.transform({"a": 1}, "Double it."),
    "validate": lambda m: m.validate(["It is short."]),
    "embed": lambda m: m.embed(["a"]),
    "generate_image": lambda m: m.generate_image("a cat"),
    "generate_video": lambda m: m.generate_video("a cat"),
    "generative": lambda m: count(m, what="sheep"),
    "generative stream": lambda m: read(iter(count.stream(m, what="sheep"))),
    "command": lambda m: describe(m, what="sheep"),
    "functional": lambda m: functional.chat("Hello", mellea.ChatContext(), m.backend),
}

ASYNC_VERBS: dict[str, Callable[[mellea.MelleaSession], Any]] = {
    "achat": lambda m: m.achat("Hello"),
    "aact": lambda m: m.aact("Hello"),
    "aquery": lambda m: m.aquery({"a": 1}, "How many?"),
    "atransform": lambda m: m.atransform({"a": 1}, "Double it."),
    "avalidate": lambda m: m.avalidate(["It is short."]),
    "aembed": lambda m: m.aembed(["a"]),
    "agenerate_image": lambda m: m.agenerate_image("a cat"),
    "agenerate_video": lambda m: m.agenerate_video("a cat"),
    "generative": lambda m: acount(m, what="sheep"),
    "generative stream": lambda m: aread(acount.astream(m, what="sheep").__aiter__()),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_leaves_our_frames_out(verb: str) -> None:
    error = raised_by(lambda: VERBS[verb](scripted([errors.ConnectError("no route", is_retryable=True)])))
    check_short(error, type(error), lines=14)  # of four frames of the test itself
    assert isinstance(error, errors.MelleaError)


@pytest.mark.anyio
@pytest.mark.parametrize("verb", ASYNC_VERBS)
async def test_every_async_verb_leaves_our_frames_out(verb: str) -> None:
    m = scripted([errors.ConnectError("no route", is_retryable=True)])
    error = await araised_by(lambda: ASYNC_VERBS[verb](m))
    check_short(error, type(error), lines=14)  # of four frames of the test itself
    assert isinstance(error, errors.MelleaError)


# -- code of the program, called back -------------------------------------------------------------------------


class Parsed(Component[int]):
    def parts(self) -> list[Any]:
        return []

    def format_for_llm(self) -> str:
        return "Say it."

    def parse(self, generation: Any) -> int:
        return {}["a line of the parser"]  # type: ignore[no-any-return]


class Picky(pydantic.BaseModel):
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def check_a(cls, value: int) -> int:
        return value + contxt  # type: ignore[name-defined,no-any-return]  # noqa: F821


class BrokenBackend(Backend):
    name = "broken"
    model_id = "m"

    async def run(self, request: Any) -> AsyncIterator[Any]:
        yield TextDelta("so far")
        raise KeyError("a line of the backend")


class Counter:
    """A counter."""

    def double(self) -> int:
        """Double it."""
        return {}["a line of the method"]  # type: ignore[no-any-return]


def transformed() -> Any:
    call = ToolCall("1", "double", {})
    return scripted([ToolStart("1", "double"), ToolEnd(call)]).transform(mellea.mify(Counter()), "Double it.")


def broken_key(output: Any) -> Any:
    return output.nonsense


@mellea.command
def divides(number: int) -> str:
    return f"Half of it is {number / 0}."


def nested(context: Any) -> bool:
    return bool(scripted([errors.ConnectError("no route")]).instruct("Judge it.").value)


OWN: dict[str, tuple[Callable[[], Any], str]] = {
    "validator": (
        lambda: scripted("abc").instruct("Say it.", requirements=[req("Be short.", validation_fn=typo)]),
        "return contxt.last_output() is None",
    ),
    "validate": (
        lambda: validated(scripted("abc", "abc"), typo),
        "return contxt.last_output() is None",
    ),
    "parser": (lambda: scripted("abc").act(Parsed()), '{}["a line of the parser"]'),
    "validator of pydantic": (lambda: scripted('{"a": 1}').instruct("Say it.", format=Picky), "return value + contxt"),
    "backend": (lambda: mellea.start_session(BrokenBackend()).instruct("Say it."), "a line of the backend"),
    "key": (
        lambda: scripted("abc").instruct("Say it.", strategy=MajorityVotingStrategy(1, key=broken_key)),
        "return output.nonsense",
    ),
    "method": (transformed, '{}["a line of the method"]'),
    "body": (lambda: divides(scripted("abc"), number=2), "number / 0"),
    "a verb in a validator": (
        lambda: scripted("abc").instruct("Say it.", requirements=[req("Be short.", validation_fn=nested)]),
        'instruct("Judge it.")',
    ),
}


def validated(m: mellea.MelleaSession, function: Callable[[Any], bool]) -> Any:
    answer = m.instruct("Say it.")
    results = m.validate([req("Be short.", validation_fn=function)])
    return answer, results


@pytest.mark.parametrize("name", OWN)
def test_the_line_of_the_programs_own_code_stays_visible(name: str) -> None:
    call, line = OWN[name]
    error = raised_by(call)
    text = check_short(error, type(error), lines=20)
    assert line in text
    shown = [frame for frame in text.splitlines() if frame.startswith("  File ")]
    assert all(__file__ in frame for frame in shown), text


async def read_one(m: mellea.MelleaSession) -> None:
    await aread(m.astream("x").__aiter__())


async def wait_for_thunk(m: mellea.MelleaSession) -> None:
    await (await m.ainstruct("x", await_result=False))


async def wait_for_verb(m: mellea.MelleaSession) -> None:
    await m.ainstruct("x")


@pytest.mark.parametrize("wait", [read_one, wait_for_thunk, wait_for_verb])
async def test_a_cancelled_wait_has_none_of_our_frames(wait: Callable[[Any], Any], anyio_backend: str) -> None:
    # A notebook prints them when a cell that awaits is interrupted.
    m, raised = scripted([Pause(60)]), []
    with anyio.move_on_after(0.05) as scope:
        try:
            await wait(m)
        except anyio.get_cancelled_exc_class() as error:
            raised.append(traceback.extract_tb(error.__traceback__))
            raise
    assert scope.cancelled_caught
    assert not [frame.filename for frame in raised[0] if frame.filename.startswith(PACKAGE)]
    assert wait.__name__ in [frame.name for frame in raised[0]]


def test_a_note_is_printed_once_also_where_the_message_tells_it() -> None:
    text = check_short(raised_by(OWN["validator"][0]), errors.OutputError)
    assert text.count("Be short.") - text.count('req("Be short."') == 1
    assert "NameError" in text


@pytest.mark.anyio
async def test_a_failed_ingredient_is_told_once_with_its_way() -> None:
    m = scripted([errors.ConnectError("no route", is_retryable=True)])
    thunk = await m.ainstruct("step 0", await_result=False)
    for number in range(1, 6):
        variables = {"before": thunk}
        thunk = await m.ainstruct(f"step {number} {{{{ before }}}}", user_variables=variables, await_result=False)
    text = check_short(await araised_by(thunk.avalue), errors.ConnectError)
    assert text.count("is an ingredient of") == 3


def test_what_the_program_handles_just_then_is_still_printed() -> None:
    def handle() -> None:
        try:
            {}["a key of the program"]
        except KeyError:
            scripted("x").instruct("Say it.", nonsense=1)

    text = check_short(raised_by(handle), errors.UsageError)
    assert '{}["a key of the program"]' in text


# -- all of it, where it is wanted ----------------------------------------------------------------------------


def test_mellea_debug_shows_every_frame_and_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELLEA_DEBUG", "1")
    text = "".join(traceback.format_exception(raised_by(lambda: refused().instruct("Say it."))))
    assert text.count(f'File "{PACKAGE}') > 3
    assert "failure.py" in text or "exchange.py" in text  # where it was raised, in the producer
    assert "direct cause" in text
    monkeypatch.setenv("MELLEA_DEBUG", "0")
    check_short(raised_by(lambda: refused().instruct("Say it.")), errors.ConnectError)


def test_a_logger_at_debug_shows_every_frame() -> None:
    logger = logging.getLogger("mellea")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        text = "".join(traceback.format_exception(raised_by(lambda: scripted("a", is_cut=True).instruct("Say it."))))
    finally:
        logger.setLevel(before)
    assert text.count(f'File "{PACKAGE}') > 3


# -- what else an error has to be able to do ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["refused", "parse of a model", "strict"])
def test_a_short_error_is_copied_and_pickled_and_still_has_its_cause(name: str) -> None:
    make, arguments, kind = KINDS[name]
    error = raised_by(lambda: make().instruct("Say it.", **arguments))
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is kind and str(twin) == str(error)
    if name == "refused":
        assert isinstance(error.__cause__ or error.__context__, ConnectionRefusedError)
    if name == "parse of a model":
        assert isinstance(error.__cause__ or error.__context__, pydantic.ValidationError)


def test_an_error_that_is_kept_keeps_no_stream_alive() -> None:
    for make, arguments, _ in (KINDS["interrupted"], KINDS["parse"], KINDS["refused"]):
        for way in ("text", "output"):
            kept: list[BaseException] = []

            def run(
                make: Make = make,
                arguments: dict[str, Any] = arguments,
                way: str = way,
                kept: list[BaseException] = kept,
            ) -> weakref.ref[Any]:
                stream = make().stream("Say it.", **arguments)
                try:
                    read(iter(stream))
                    if way == "output":
                        stream.output  # noqa: B018
                except errors.MelleaError as error:
                    error.with_traceback(None)  # the frame of this very function holds the stream
                    kept.append(error)
                return weakref.ref(stream)

            gc.collect()
            gc.disable()
            try:
                stream = run()
                assert stream() is None
            finally:
                gc.enable()


@dataclass(frozen=True)
class FrozenError(Exception):
    what: str


@mellea.command
def freezes(what: str) -> str:
    raise FrozenError(what)


def test_a_frozen_error_of_the_program_comes_out_as_it_is() -> None:
    text = check_short(raised_by(lambda: freezes(scripted("abc"), what="it is ice")), FrozenError)
    assert "raise FrozenError(what)" in text

    def check(context: Any) -> bool:
        raise FrozenError("it is snow")

    requirements = [req("Be short.", validation_fn=check)]
    text = check_short(
        raised_by(lambda: scripted("a").instruct("Say it.", requirements=requirements)), errors.OutputError
    )
    assert "raise FrozenError(" in text and "Be short." in text


# -- real programs --------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio
import trio
import mellea
from mellea.stdlib.requirements import req
from mellea.testing import ScriptedBackend

m = mellea.start_session(ScriptedBackend("abc", is_cut={is_cut}))


def check(context):
    return contxt


async def main():
    {amain}


{run}
"""

CASES = {
    "sync": ("pass", "m.instruct('Say it.')", True),
    "sync stream": ("pass", "list(m.stream('Say it.'))", True),
    "asyncio": ("await m.ainstruct('Say it.')", "asyncio.run(main())", True),
    "asyncio stream": ("[chunk async for chunk in m.astream('Say it.')]", "asyncio.run(main())", True),
    "trio": ("await m.achat('Say it.')", "trio.run(main)", True),
    "validator": ("pass", "m.instruct('Say it.', requirements=[req('Short.', validation_fn=check)])", False),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sample(3)
def test_a_program_that_ends_with_an_error_prints_it_short(name: str, tmp_path: Path) -> None:
    amain, run, is_cut = CASES[name]
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(amain=amain, run=run, is_cut=is_cut))
    environment = {key: value for key, value in os.environ.items() if key != "MELLEA_DEBUG"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    # The loop's own way to the program isn't ours to shorten: the line of a frame, its text and a line of marks each.
    loops = sum(line.startswith("  File ") and str(script) not in line for line in lines)
    assert f'File "{PACKAGE}' not in done.stderr
    assert len(lines) - 3 * loops <= 16, done.stderr
    assert done.stderr.count("stopped before its end" if is_cut else "code of your own failed") == 1
    assert (f'{script}", line 12, in check' in done.stderr) is not is_cut
