"""Texts and lists without limits get the room that there is."""

import json
from dataclasses import dataclass

import pytest

from mellea.backends.llama_cpp.budget import LEAST_ITEMS, LEAST_LENGTH
from mellea.backends.llama_cpp.schema import MAX_ITEMS, MAX_LENGTH, write_grammar
from mellea.core.structured import make_output_format

pytestmark = pytest.mark.one_loop

TEXT = {"type": "string"}


def limited(schema, max_tokens=1024):
    return json.loads(write_grammar(schema, max_tokens).partition("%json ")[2])


def texts(*names):
    return {"type": "object", "properties": dict.fromkeys(names, TEXT), "required": list(names)}


def test_texts_share_the_room():
    alone = limited(TEXT)["maxLength"]
    assert 2000 < alone <= MAX_LENGTH
    of_two = limited(texts("a", "b"))["properties"]
    assert of_two["a"]["maxLength"] == of_two["b"]["maxLength"] == alone // 2
    assert limited(texts(*"abcdefghijklmnopqrstuvwxyz" * 2))["properties"]["a"]["maxLength"] >= LEAST_LENGTH


def test_more_tokens_are_more_room_up_to_the_old_limits():
    assert limited(TEXT, 512)["maxLength"] == limited(TEXT)["maxLength"] // 2
    assert limited(TEXT, 10_000)["maxLength"] == MAX_LENGTH
    assert limited({"type": "array", "items": TEXT}, 10_000)["maxItems"] == MAX_ITEMS
    assert limited(TEXT, 1)["maxLength"] == LEAST_LENGTH
    assert limited({"type": "array", "items": TEXT}, 1)["maxItems"] == LEAST_ITEMS


def test_the_longer_the_items_the_fewer():
    counts = [
        limited({"type": "array", "items": items})["maxItems"]
        for items in ({"type": "boolean"}, TEXT, texts("a", "b"), {"type": "array", "items": texts("a", "b")})
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= LEAST_ITEMS
    assert len(set(counts)) == len(counts)


def test_what_the_schema_states_stays():
    schema = texts("a") | {"properties": {"a": TEXT | {"maxLength": 4000}, "b": TEXT | {"minLength": 3000}}}
    found = limited(schema, 100)["properties"]
    assert found["a"]["maxLength"] == 4000
    assert found["b"]["maxLength"] == 3000
    items = {"type": "array", "items": TEXT, "minItems": 90}
    assert limited(items, 100)["maxItems"] == 90
    assert limited(items | {"maxItems": 100, "minItems": 0}, 100)["maxItems"] == 100
    assert limited(TEXT | {"format": "date"}, 1)["maxLength"] == 10


@dataclass
class Node:
    name: str
    children: list["Node"]


@pytest.mark.parametrize("kind", [Node, list[Node], dict[str, Node], dict[str, list[str]], list[list[list[str]]]])
def test_types_within_types_end(kind):
    body = json.dumps(limited(make_output_format(kind).schema.schema))
    assert str(MAX_LENGTH) not in body


def test_sharing_out_takes_no_time_in_a_schema_that_refers_to_itself_all_over():
    nodes = {f"p{number}": {"type": "array", "items": {"$ref": "#"}} for number in range(60)}
    assert limited({"type": "object", "properties": nodes})["$defs"]


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [(texts("name", "biography"), "Write about Ada."), ({"type": "array", "items": TEXT}, "List the names of cats.")],
)
def test_a_typed_answer_of_a_model_that_goes_on_for_ever_is_complete(generate, kind, prompt):
    answer = generate(kind, prompt, max_tokens=300, temperature=0)  # without a penalty it repeats itself
    assert answer.finish_reason == "stop"
    json.loads(answer.text)
