"""`@generative`: the docstring is the prompt, the annotations the schema."""

from __future__ import annotations

import enum
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Optional

import anyio
import pytest
from pydantic import BaseModel

import mellea
from mellea import command, generative
from mellea.core import Requirement, ValidationResult
from mellea.errors import ParseError, RequirementError, UsageError
from mellea.stdlib.components import Document, mify
from mellea.stdlib.requirements import check, req, simple_validate
from mellea.stdlib.sampling import RejectionSamplingStrategy
from mellea.testing import Gate, ScriptedBackend

pytestmark = pytest.mark.anyio


def session(*replies: Any, **kwargs: Any) -> tuple[mellea.MelleaSession, ScriptedBackend]:
    backend = ScriptedBackend(*replies, **kwargs)
    return mellea.start_session(backend), backend


@generative
def classify(text: str, language: str = "English") -> Literal["positive", "negative"]:
    """Classify the sentiment of the input text.

    Args:
        text: what to look at.

    Returns:
        "positive" or "negative", nothing else.

    Examples:
        "I like it." is positive.
    """


@generative
async def aclassify(text: str) -> Literal["positive", "negative"]:
    """Classify the sentiment of the input text."""


SAID = [
    "Classify the sentiment of the input text.",
    'Returns: "positive" or "negative", nothing else.',
    "Examples:",
    '"I like it." is positive.',
    "Input:",
    "text (what to look at): I love this!",
    "language: English",
]


def test_the_docstrings_sections_and_the_arguments_are_the_prompt() -> None:
    m, backend = session('"positive"')
    assert classify(m, "I love this!") == "positive"
    assert [line for line in backend.prompts[0].splitlines() if line] == SAID
    schema = backend.requests[0].output_schema
    assert schema is not None
    assert schema.schema["enum"] == ["positive", "negative"]


def test_a_session_comes_first_by_name_or_from_around() -> None:
    m, backend = session('"negative"')
    other, _ = session('"positive"')
    assert classify(m, text="x") == "negative"
    assert classify("x", session=m) == classify(text="x", m=m) == "negative"  # type: ignore[call-arg]
    assert classify.with_options(session=m)("x") == "negative"
    with other:
        assert classify("x") == "positive"
        assert classify(m, "x") == "negative"
    assert len(backend.requests) == 5


async def test_an_async_function_is_awaited() -> None:
    m, backend = session('"positive"')
    assert await aclassify(m, text="x") == "positive"
    assert await aclassify.with_options(session=m)("x") == "positive"
    async with m:
        assert await aclassify("x") == "positive"
    assert len(backend.requests) == 3


async def test_a_sync_function_works_inside_a_running_loop() -> None:
    m, _ = session('"positive"')
    assert classify(m, "x") == "positive"


@dataclass
class Person:
    name: str
    age: Optional[int]  # noqa: UP045 - the old way to write it has to work


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    value: int


def returns(annotation: Any) -> Callable[..., Any]:
    def answer(x: int) -> Any:
        """Answer."""

    answer.__annotations__["return"] = annotation
    return generative(answer)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "hello", "hello"),
        (int, "7", 7),
        (bool, "false", False),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, float], '{"a": 0.5}', {"a": 0.5}),
        (Person, '{"name": "Ann", "age": null}', Person("Ann", None)),
        (list[Person], '[{"name": "Ann", "age": 3}]', [Person("Ann", 3)]),
        (Model, '{"value": 1}', Model(value=1)),
        (Colour, '"red"', Colour.RED),
        (int | None, "null", None),
        (int | str, '"x"', "x"),
    ],
)
def test_results_are_of_every_type(annotation: Any, text: str, value: Any) -> None:
    m, _ = session(text)
    assert returns(annotation)(m, 1) == value


def test_without_an_annotation_the_result_is_text_and_without_a_docstring_the_name_says_it() -> None:
    @generative
    def write_a_haiku(topic, mood="sad\nand slow"):  # type: ignore[no-untyped-def]
        ...

    m, backend = session("Leaves fall.")
    assert write_a_haiku(m, "autumn") == "Leaves fall."
    assert backend.prompts == ["Write a haiku.\n\nInput:\ntopic: autumn\nmood:\nsad\nand slow"]
    assert backend.requests[0].output_schema is None


def test_an_annotation_may_name_what_is_local_to_the_function_around() -> None:
    @dataclass
    class Local:
        x: int

    @generative
    def make() -> Local:
        """Make one."""

    m, backend = session('{"x": 1}')
    assert make(m) == Local(1)
    assert backend.prompts == ["Make one."]


@generative
def early() -> Later:  # type: ignore[name-defined]  # it is defined below
    """Make one."""


class Later(BaseModel):
    y: int


def test_an_annotation_may_name_what_is_defined_later() -> None:
    m, _ = session('{"y": 2}')
    assert early(m) == Later(y=2)


async def test_part_4_number_21_a_value_with_braces_stays_text() -> None:
    m, backend = session('"positive"')
    await aclassify(m, "{{ secret }}")
    assert backend.prompts[0].endswith("text: {{ secret }}")


@dataclass
class Greeter:
    name: str

    @generative
    def greet(self, whom: str) -> str:
        """Say hello as this person would."""

    @generative
    async def agreet(self, whom: str) -> str:
        """Say hello as this person would."""

    @staticmethod
    @generative
    def still(whom: str) -> str:
        """Say nothing."""


class Plain:
    @generative
    def greet(self, whom: str) -> str:
        """Say hello."""


async def test_of_a_method_the_object_is_said_if_it_can_be() -> None:
    m, backend = session("Hi!")
    greeter = Greeter("Ann")
    assert greeter.greet(m, "Bob") == await greeter.agreet(m, whom="Bob") == "Hi!"
    assert Greeter.greet(greeter, "Bob", session=m) == "Hi!"  # type: ignore[call-arg]
    said = 'Say hello as this person would.\n\nInput:\nGreeter: {"name": "Ann"}\nwhom: Bob'
    assert backend.prompts == [said, said, said]
    Plain().greet(m, "Bob")
    Greeter.still(m, "Bob")
    assert backend.prompts[3:] == ["Say hello.\n\nInput:\nwhom: Bob", "Say nothing.\n\nInput:\nwhom: Bob"]


@mify(fields_include={"name"})
class Shop:
    def __init__(self) -> None:
        self.name, self.secret = "Ann's", "x"

    @generative
    def welcome(self, whom: str, news: Document, sizes: list[int]) -> str:
        """Say hello.

        Say it nicely.

        Args:
            whom: who is greeted.
            news: what has
                happened.

        Note:
            Be short.

        Example:
            Hello Bob!
        """
        raise AssertionError("the body is never run")


SAID_BY_THE_SHOP = """\
Say hello.

Say it nicely.

Notes: Be short.

Examples:

Hello Bob!

Input:
Shop:
- name: Ann's

whom (who is greeted):
Bob
and Eve

news (what has happened):
Document "News":
We have
moved.

sizes: [1, 2]"""


def test_a_prompt_as_a_model_gets_it() -> None:
    m, backend = session("Hi!")
    assert Shop().welcome(m, "Bob\nand Eve", Document("We have\nmoved.", title="News"), [1, 2]) == "Hi!"
    assert backend.prompts == [SAID_BY_THE_SHOP]


async def test_promise_11_thunks_are_arguments() -> None:
    gate = Gate()
    m, backend = session([gate, "nice"], '"positive"')
    text = await m.ainstruct("Write.", await_result=False)
    async with anyio.create_task_group() as group:
        group.start_soon(aclassify, m, text)
        while not backend.requests:
            await anyio.sleep(0.01)
        assert len(backend.requests) == 1
        gate.open()
    assert backend.prompts[1].endswith("text: nice")


def is_short(context: Any) -> ValidationResult:
    arguments = context.last_output().parsed
    return ValidationResult(len(arguments["text"]) < 5, "too long")


@pytest.mark.parametrize("condition", [req("short", validation_fn=is_short), Requirement("short", is_short)])
async def test_a_precondition_fails_before_anything_is_sent(condition: Requirement) -> None:
    m, backend = session('"positive"')
    careful = aclassify.with_options(preconditions=[condition])
    assert await careful(m, "x") == "positive"
    with pytest.raises(
        RequirementError,
        match=r"aclassify\(\) wasn't called: its arguments don't meet their requirements: short \(too long\)",
    ) as caught:
        await careful(m, "much too long")
    assert [[bool(result) for result in results] for results in caught.value.results] == [[False]]
    with pytest.raises(RequirementError, match="wasn't called"):
        async for _ in careful.astream(m, "much too long"):
            pass
    assert len(backend.requests) == 1


async def test_a_precondition_sees_the_arguments_as_text_and_thunks_by_their_value() -> None:
    seen = []
    note = check("seen", validation_fn=simple_validate(lambda text: seen.append(text) or True))
    m, _ = session("nice", '"positive"')
    text = await m.ainstruct("Write.", await_result=False)
    await aclassify.with_options(preconditions=[note])(m, text)  # type: ignore[arg-type]
    assert seen == ["text: nice"]


shouted = req("in capitals", validation_fn=simple_validate(str.isupper))


@generative(requirements=[shouted])
def shout(text: str) -> str:
    """Shout it."""


def test_requirements_go_into_the_prompt_and_through_the_strategy() -> None:
    m, backend = session("hey", "HEY")
    assert shout(m, "hey") == "HEY"
    assert "Requirements:\n- in capitals" in backend.prompts[0]
    assert len(backend.requests) == 2


def test_part_4_number_22_an_answer_that_fails_is_never_returned() -> None:
    m, backend = session("hey")
    with pytest.raises(RequirementError, match="in capitals"):
        shout.with_options(strategy=RejectionSamplingStrategy(loop_budget=3))(m, "hey")
    assert len(backend.requests) == 3


def test_options_come_from_the_decorator_with_options_and_the_call() -> None:
    @generative(model_options={"temperature": 0.5, "seed": 1})
    def write() -> str:
        """Write."""

    m, backend = session("x")
    write.with_options(model_options={"seed": 2})(m)
    write(m, model_options={"temperature": 1})  # type: ignore[call-arg]
    write(m)
    assert [dict(request.options) for request in backend.requests] == [
        {"temperature": 0.5, "seed": 2},
        {"temperature": 1, "seed": 1},
        {"temperature": 0.5, "seed": 1},
    ]


def test_a_strategy_of_none_only_tells_the_requirements() -> None:
    m, backend = session("hey")
    assert shout.with_options(strategy=None)(m, "hey") == "hey"
    assert "in capitals" in backend.prompts[0]


def double(x: int) -> int:
    """Double it."""
    return 2 * x


def test_tools_are_run() -> None:
    call = mellea.core.ToolCall("c", "double", {"x": 4})
    m, backend = session([mellea.events.ToolEnd(call)], "8")

    @generative(tools=[double])
    def compute(question: str) -> int:
        """Compute."""

    assert compute(m, "2 * 4?") == 8
    assert backend.requests[1].messages[-1].blocks[0].result == 8  # type: ignore[union-attr]


def test_text_is_streamed() -> None:
    @generative
    def write(topic: str) -> str:
        """Write."""

    m, backend = session(["a", "b", "c"])
    stream = write.stream(m, "x")
    assert not backend.requests, "an unused stream sends nothing"
    assert list(stream) == ["a", "b", "c"] or "".join(stream) == "abc"
    assert stream.output == "abc"
    with write.with_options(session=m).stream("x") as again:
        assert "".join(again) == "abc"
    typed = classify.stream(m, "x")
    assert "".join(typed) == "abc"
    with pytest.raises(ParseError):
        _ = typed.output


async def test_text_is_streamed_in_async_code() -> None:
    m, backend = session(['"pos', 'itive"'])
    async with aclassify.astream(m, "x") as stream:
        assert "".join([chunk async for chunk in stream]) == '"positive"'
        assert stream.output == "positive"
    chunks = [chunk async for chunk in classify.astream(m, "x")]
    assert "".join(chunks) == '"positive"'
    backend.assert_closed()


async def test_a_stream_with_requirements_lets_out_the_text_of_the_accepted_attempt() -> None:
    m, backend = session(["h", "ey"], ["H", "EY"], "hey")
    assert "".join([chunk async for chunk in shout.astream(m, "x")]) == "HEY"
    assert len(backend.requests) == 2
    with pytest.raises(RequirementError, match="in capitals"):
        async for _ in shout.astream(m, "x"):
            pass
    assert [chunk async for chunk in shout.with_options(strategy=None).astream(m, "x")] == ["hey"]


def takes_m(m: int) -> str: ...
def takes_strategy(strategy: int) -> str: ...
def nothing() -> None: ...


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda m: generative(takes_m), r"takes_m\(\) has a parameter 'm', a name that is reserved for calls"),
        (lambda m: generative(takes_strategy), "has a parameter 'strategy'"),
        (lambda m: generative(3), "a prompt is made from a function, not from 3"),
        (lambda m: generative(temperature=1)(nothing), r"nothing\(\) takes no option 'temperature'"),
        (lambda m: generative(model_options={"temprature": 1})(nothing), "did you mean 'temperature'"),
        (lambda m: generative(nothing)(m), r"nothing\(\) is annotated to return None"),
        (lambda m: classify(m), r"classify\(\) can't be called like this: missing a required argument: 'text'"),
        (lambda m: classify(m, text="x", ticket="T-7"), "'ticket'; it is classify.*; did you mean 'text'"),
        (lambda m: classify(m, "a", "b", "c"), "too many positional arguments"),
        (lambda m: classify(m, "a", tone="b"), "got an unexpected keyword argument 'tone'"),
        (lambda m: classify("a", session=3), "takes a session such as start_session"),
        (lambda m: classify("a", session=m, m=m), "was given a session twice"),
        (lambda m: classify.stream(m), "missing a required argument"),
        (lambda m: classify.with_options(retries=3), r"classify.with_options\(\) takes no option 'retries'"),
        (lambda m: classify.with_options(strategy=3), "strategy takes a sampling strategy"),
        (lambda m: generative(max_turns=0)(nothing), "max_turns takes a whole number from 1, not 0"),
        (lambda m: generative(preconditions="a")(nothing), "preconditions takes a list, not 'a'"),
        (lambda m: classify.with_options(release="item"), "a function takes release='step' or nothing"),
    ],
)
def test_mistakes_are_told_with_the_way_out(use: Callable[[Any], Any], said: str) -> None:
    m, backend = session("x")
    with pytest.raises(UsageError, match=said):
        use(m)
    assert not backend.requests


def test_a_prompt_function_shows_its_name_and_keeps_what_it_is_made_of() -> None:
    assert repr(classify) == "<PromptFunction 'classify'>"
    assert repr(aclassify) == "<AsyncPromptFunction 'aclassify'>"
    assert classify.__name__ == "classify"
    assert (classify.__doc__ or "").startswith("Classify the sentiment")


def test_what_is_no_plain_function_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="not from the class"):
        generative(Document)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"greet\(\) is a @staticmethod already; put @staticmethod on top"):

        class Wrong:
            @generative
            @staticmethod
            def greet(whom: str) -> str:
                """Greet."""
                raise NotImplementedError

    class Right:
        @staticmethod
        @generative
        def greet(whom: str) -> str:
            """Greet."""
            raise NotImplementedError

        @classmethod
        @generative
        def meet(cls, whom: str) -> str:
            """Meet."""
            raise NotImplementedError

        @property
        @generative
        def mood(self) -> str:
            """Say the mood."""
            raise NotImplementedError

    m, backend = session("Hi.")
    with m:
        assert Right().greet("Ann") == Right.greet("Ann") == Right.meet("Ann") == Right().mood == "Hi."
    assert backend.prompts[0] == "Greet.\n\nInput:\nwhom: Ann"
    assert backend.prompts[-1] == "Say the mood."


def test_a_result_that_no_answer_can_be_is_refused_at_the_definition() -> None:
    class Nothing(enum.Enum):
        pass

    with pytest.raises(UsageError, match="Nothing"):

        @generative
        def choose(text: str) -> Nothing:
            """Choose."""

    with pytest.raises(UsageError, match="contain itself"):

        @command(output=Endless)
        def ask_for_one() -> str:
            return "One, please."


class Endless(BaseModel):
    inner: Endless


def test_a_prompt_that_python_has_removed_is_an_error_and_not_another_prompt() -> None:
    code = '''
from mellea import MelleaSession, generative, command
from mellea.errors import ConfigurationError
from mellea.testing import ScriptedBackend

@generative
def count(text: str) -> int:
    """Count the words."""
    ...

@command
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Greet {name}."

@command
def nod(name: str) -> str:
    """Nod to somebody."""

session = MelleaSession(ScriptedBackend("3"))
print(greet(session, name="Ada"))
for function, arguments in ((count, {"text": "a b"}), (nod, {"name": "Ada"})):
    try:
        print(function(session, **arguments))
    except ConfigurationError as error:
        print(error)
'''
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, timeout=120, check=True)
    first, *others = done.stdout.splitlines()
    assert first == "3"
    assert len(others) == 2 and all("-OO" in line for line in others)
