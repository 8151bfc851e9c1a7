import json
import re

import pytest

from mellea.backends.llama_cpp.pattern import explain_unsupported

HOLD = [
    "",
    r"^[A-Z]{2}-\d{3}$",
    "[0-9]{3}",
    "^a+?b$",
    "^(?P<x>a)b$",
    "^(?<x>a)b$",
    "^a$|^b$",
    "(^a$)",
    "^(?:a$|b$)",
    r"^\p{Lu}{3}$",
    r"^\u0041\x42$",
    r"^a\/b\-\@\_\ \!\"\'\,\:\;\=\`\~\#\%\&$",
    r"^[\]\[a-c\-]$",
    "^[-a-]$",
    "^[^a]{1,3}$",
    "^.{3}$",
    "^a}]$",
    "^a{0}$",
    "^()b$",
    r"^\r\n\t\f\v$",
    r"^[\w.\s\d\/\.@]{2}$",
]
VANISH = [
    "^(?=a)b$",
    "^(?!a)b$",
    "(?<=a)b",
    "(?<!a)b",
    r"^(a)\1$",
    r"\bab\b",
    r"a\Bb",
    "a^b",
    "^^a$$",
    "^(?:a|^b)$x",
    r"\Aab\Z",
    "^[[]a$",
    "^a{,3}$",
    "^a{b}$",
    "^a{3,1}$",
    "*",
    "(a",
    "a)",
    "[a",
    r"^\é$",
    r"^\e$",
    r"^\0$",
    r"\<a\>",
    r"^\cA$",
    "a\\",
]


@pytest.mark.parametrize("pattern", HOLD)
def test_supported(pattern):
    assert explain_unsupported(pattern) is None


@pytest.mark.parametrize("pattern", VANISH)
def test_unsupported(pattern):
    assert explain_unsupported(pattern) is not None


@pytest.mark.parametrize("pattern", HOLD[1:])
@pytest.mark.sample(12)
def test_pattern_holds(generate, pattern):
    answer = generate({"type": "string", "pattern": pattern, "maxLength": 20})
    python = re.sub(r"\\p\{Lu\}", "[A-ZÀ-Þ]", pattern).replace("(?<x>", "(?P<x>")
    if answer.finish_reason == "stop":
        assert re.search(python, json.loads(answer.text)), answer.text
