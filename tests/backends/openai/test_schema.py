"""The strict form of schemas, and answers that are taken out of an object."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from mellea.backends.openai.chat.encode import encode as encode_chat
from mellea.backends.openai.responses.encode import encode as encode_response
from mellea.backends.openai.schema import make_schema_name, make_sent_schema, make_strict_schema
from mellea.backends.openai.services import COMPATIBLE, SERVICES
from mellea.core.backend import OutputSchema, Request
from mellea.core.messages import user_message
from mellea.core.structured.envelope import Unwrapper, needs_wrapping, wrap_schema


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Wheel(BaseModel):
    size: Annotated[int, Field(ge=1)] = 3
    colour: Colour | None = None


class Cart(BaseModel):
    name: Annotated[str, Field(min_length=1, description="What it's called")]
    wheels: list[Wheel] = []
    first: Wheel = Field(default_factory=Wheel, description="The front one")
    kind: Literal["old", "new"] = "new"


class Node(BaseModel):
    value: int
    next: Node | None = None


def strict_of(kind: Any) -> Any:
    return make_strict_schema(TypeAdapter(kind).json_schema())


def assert_strict(schema: Any, *, is_top: bool = True) -> None:
    """Fail unless the schema keeps to what strict mode allows."""
    if isinstance(schema, list):
        for each in schema:
            assert_strict(each, is_top=False)
    if not isinstance(schema, dict):
        return
    if is_top:
        assert schema["type"] == "object" and "anyOf" not in schema and "$ref" not in schema
    if schema.get("type") == "object":
        assert schema["additionalProperties"] is False and schema["required"] == list(schema["properties"])
    if "$ref" in schema:
        assert set(schema) == {"$ref"}
    assert not {"default", "oneOf", "allOf", "minLength", "discriminator", "prefixItems"} & schema.keys()
    for name in ("properties", "$defs"):
        for each in schema.get(name, {}).values():
            assert_strict(each, is_top=False)
    for name in ("items", "anyOf"):
        assert_strict(schema.get(name), is_top=False)


@pytest.mark.parametrize("kind", [Cart, Node, Wheel, list[Cart], Cart | Wheel, int, list[int], Literal["a"], Colour])
def test_the_strict_form(kind: Any) -> None:
    strict = strict_of(kind)
    assert strict.is_strict
    assert_strict(strict.schema)


def test_what_strict_mode_doesnt_know_is_said() -> None:
    assert strict_of(Cart).schema["properties"]["name"]["description"] == "What it's called; minLength=1"
    assert strict_of(Cart).schema["properties"]["first"]["properties"].keys() == {"size", "colour"}


@pytest.mark.parametrize("kind", [dict[str, int], tuple[int, str], list[Any]])
def test_what_has_no_strict_form_is_asked_for_all_the_same(kind: Any) -> None:
    strict = strict_of(kind)
    assert not strict.is_strict and strict.schema["type"] == "object"


def test_the_schema_itself_stays_as_it_was() -> None:
    schema = TypeAdapter(Cart).json_schema()
    before = json.dumps(schema)
    make_strict_schema(schema)
    assert json.dumps(schema) == before


def test_what_is_wrapped() -> None:
    for kind, wraps in ((Cart, False), (Node, False), (list[int], True), (Cart | Wheel, True), (int, True)):
        assert needs_wrapping(TypeAdapter(kind).json_schema()) is wraps


def test_names() -> None:
    assert make_schema_name("list[my.Thing]") == "list_my_Thing_"
    assert make_schema_name("") == "answer" and len(make_schema_name("x" * 99)) == 64


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('} "{', max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.sampled_from([None, 2]), st.lists(st.integers(0, 200), max_size=8), st.sampled_from(["", " ", "\n"]))
def test_the_value_comes_out_however_it_is_split(value: Any, indent: int | None, cuts: list[int], space: str) -> None:
    text = space + json.dumps({"value": value}, indent=indent, ensure_ascii=False) + space
    unwrapper, out, start = Unwrapper(), [], 0
    for cut in [*sorted(cut for cut in cuts if cut <= len(text)), len(text)]:
        out.append(unwrapper.feed(text[start:cut]))
        start = cut
    out.append(unwrapper.close())
    assert json.loads("".join(out)) == value
    assert not "".join(out)[-1].isspace()


@pytest.mark.parametrize("text", ["[1, 2]", "Sorry, no.", '{"other": 1}', "", '{"val'])
def test_what_isnt_wrapped_passes(text: str) -> None:
    for size in (1, 3, 100):
        unwrapper = Unwrapper()
        pieces = [unwrapper.feed(text[place : place + size]) for place in range(0, len(text), size)]
        assert "".join(pieces) + unwrapper.close() == text


class Tight(BaseModel):
    name: Annotated[str, Field(max_length=12)] = ""
    tags: Annotated[list[Annotated[str, Field(min_length=2)]], Field(min_length=1, max_length=3)]


TIGHT = TypeAdapter(Tight).json_schema()


@pytest.mark.parametrize("name", ["lmstudio", "vllm", "llama_server", "sglang"])
@pytest.mark.parametrize("kind", [Tight, list[Tight], dict[str, Annotated[str, Field(max_length=3)]], Node])
def test_a_server_of_open_weights_is_sent_the_whole_schema(name: str, kind: Any) -> None:
    whole = TypeAdapter(kind).json_schema()
    sent = make_sent_schema(whole, SERVICES[name].holding)
    assert sent.is_strict
    assert sent.schema == (wrap_schema(whole) if needs_wrapping(whole) else whole)


def test_openai_is_sent_its_strict_form() -> None:
    for name in ("openai", "azure", "openrouter", "groq"):
        assert make_sent_schema(TIGHT, SERVICES[name].holding) == make_strict_schema(TIGHT)


def test_an_unknown_server_is_sent_limits_though_not_strictly() -> None:
    assert make_sent_schema(TIGHT, COMPATIBLE.holding).schema == TIGHT
    assert not make_sent_schema(TIGHT, COMPATIBLE.holding).is_strict
    without = TypeAdapter(Node).json_schema()
    assert make_sent_schema(without, COMPATIBLE.holding) == make_strict_schema(without)


@pytest.mark.parametrize("encode", [encode_chat, encode_response])
def test_both_formats_send_limits_to_local_servers(encode: Any) -> None:
    request = Request((user_message("Hi"),), output_schema=OutputSchema("tight", TIGHT))
    said = json.dumps(encode(request, "m", SERVICES["lmstudio"]))
    assert '"maxLength": 12' in said and '"maxItems": 3' in said and "maxLength=" not in said
