"""Requirements on the language of an output, recognised by its script and its most frequent words.

This can't recognise languages that aren't in the table, can't reliably distinguish close relatives (the Scandinavian
languages; Spanish and Portuguese; Russian and Bulgarian, which isn't in the table), and needs more than a few words. If
it can't decide, the requirement is met and the reason says so: its purpose is to catch answers in the wrong language,
not to prove the right one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from mellea.core.entrance import entrance
from mellea.core.requirement import Requirement, ValidationResult
from mellea.errors import UsageError
from mellea.stdlib.requirements.shorthand import simple_validate

__all__ = ["language"]


@dataclass(frozen=True, slots=True)
class _Language:
    """The features of a language.

    Args:
        name: its English name.
        scripts: the scripts it is written in: the first word of its letters' Unicode names.
        words: frequent words that don't depend on the topic.
        letters: letters that other languages with the same script don't have.
    """

    name: str
    scripts: frozenset[str]
    words: frozenset[str] = frozenset()
    letters: frozenset[str] = frozenset()


def _make_latin(name: str, words: str) -> _Language:
    return _Language(name, frozenset({"LATIN"}), frozenset(words.split()))


def _make_other(name: str, scripts: str, letters: str = "") -> _Language:
    return _Language(name, frozenset(scripts.split()), letters=frozenset(letters))


_LANGUAGES: dict[str, _Language] = {
    "cs": _make_latin(
        "Czech", "a se na je že v z s do o k i ale jako za by jsem jsou byl to ve po které která pro při nebo"
    ),
    "da": _make_latin(
        "Danish", "og det er at en den til på som med de af for ikke der var mig et har om vi jeg han af hvad"
    ),
    "de": _make_latin(
        "German", "der die das und ist nicht ich sie es ein eine zu den mit von auf für im dem auch sich wir war"
    ),
    "en": _make_latin(
        "English", "the and of to a in is that it was for on are with as be this have from or by not you but at"
    ),
    "es": _make_latin(
        "Spanish", "de la que el en y los se del las un por con una no es para al lo como más pero sus le está"
    ),
    "fi": _make_latin(
        "Finnish", "ja on ei se että oli hän mutta ovat joka kun niin mitä tämä myös vain minä jos ole voi sen"
    ),
    "fr": _make_latin(
        "French", "de la le et les des en un du une que est pour qui dans pas il au sur ne ce plus par je vous"
    ),
    "it": _make_latin(
        "Italian", "di e il la che in un per è non una con sono da del le si i dei della al come ma ho più gli"
    ),
    "nb": _make_latin(
        "Norwegian", "og i det er at en den til på som med de av for ikke var meg et har om vi jeg han hva å"
    ),
    "nl": _make_latin(
        "Dutch", "de het een en van ik is dat die in te niet zijn op aan met voor er maar om ook als bij naar"
    ),
    "pl": _make_latin(
        "Polish", "i w nie na się że z do jest to o jak ale po co tak za od już przez dla czy są być był lub"
    ),
    "pt": _make_latin(
        "Portuguese", "de a o que e do da em um para é com não uma os no se na por mais as dos como mas ao ele"
    ),
    "sv": _make_latin(
        "Swedish", "och att det i en jag är som på för av den med han inte var ett till de har om vi men så"
    ),
    "tr": _make_latin(
        "Turkish", "ve bir bu da de için çok ne ile olarak daha var gibi kadar ama en ben olan sonra değil mi"
    ),
    "ar": _make_other("Arabic", "ARABIC"),
    "el": _make_other("Greek", "GREEK"),
    "fa": _make_other("Persian", "ARABIC", "پچژگ"),
    "he": _make_other("Hebrew", "HEBREW"),
    "hi": _make_other("Hindi", "DEVANAGARI"),
    "ja": _make_other("Japanese", "HIRAGANA KATAKANA CJK"),
    "ko": _make_other("Korean", "HANGUL"),
    "ru": _make_other("Russian", "CYRILLIC", "ыэёъ"),
    "th": _make_other("Thai", "THAI"),
    "uk": _make_other("Ukrainian", "CYRILLIC", "іїєґ"),
    "zh": _make_other("Chinese", "CJK"),
}

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")

_FEWEST_LETTERS = 10
_FEWEST_HITS = 3
_CLEARLY = 1.5
"""How many times as many frequent words another language must have to count as the language of the text."""

_KANA_SHARE = 0.05
"""The least share of kana among the letters of a Japanese text; a Chinese one has none."""

_OWN_LETTERS_SHARE = 0.005


@entrance("language")
def language(name: str, *, description: str | None = None, check_only: bool = False) -> Requirement:
    """Make a requirement that the output is in a language.

    The language is recognised by its script, and by frequent words where several languages share a script; code and
    URLs are ignored. An output that is too short, or in an unknown language, passes, with a reason that says so.

    Args:
        name: the language's code or English name, such as `"de"` or `"German"`: Arabic, Chinese, Czech, Danish, Dutch,
            English, Finnish, French, German, Greek, Hebrew, Hindi, Italian, Japanese, Korean, Norwegian, Persian,
            Polish, Portuguese, Russian, Spanish, Swedish, Thai, Turkish, Ukrainian.
        description: the text for the prompt, instead of the default.
        check_only: keep it out of the prompt.

    Raises:
        UsageError: the language isn't among them.
    """
    code = _find_code(name)

    def validate(text: str) -> ValidationResult:
        return _validate(text, code)

    text = description or f"Answer in {_LANGUAGES[code].name}."
    return Requirement(text, simple_validate(validate), check_only)


def _find_code(name: str) -> str:
    wanted = name.strip().lower() if isinstance(name, str) else ""
    for code, known in _LANGUAGES.items():
        if wanted in (code, known.name.lower()) or wanted.split("-")[0] == code:
            return code
    names = ", ".join(sorted(f"{known.name} ({code!r})" for code, known in _LANGUAGES.items()))
    raise UsageError(f"language doesn't know {name!r}; it knows {names}; a model can judge other languages")


def _validate(text: str, code: str) -> ValidationResult:
    # Composed: `é` may come as two characters, the second of which isn't a letter.
    text = unicodedata.normalize("NFC", _CODE.sub(" ", text))
    letters = Counter(_get_script(letter) for letter in text if letter.isalpha())
    total = letters.total()
    if total < _FEWEST_LETTERS:
        return ValidationResult(True, "it is too short to tell its language")
    wanted = _LANGUAGES[code]
    script, count = max(letters.items(), key=lambda item: item[1])
    kana = letters["HIRAGANA"] + letters["KATAKANA"]
    # A Japanese text may be mostly Chinese characters; the kana between them give it away.
    if script not in wanted.scripts and not (code == "ja" and kana):
        # A few foreign names don't make another language.
        if 2 * count > total:
            return ValidationResult(False, f"it is written in {script.capitalize()} letters, not in {wanted.name}")
        return ValidationResult(True, "its scripts are too mixed to tell its language")
    if wanted.words:
        return _compare_words(text, code)
    if code in ("ja", "zh"):
        is_japanese = kana > _KANA_SHARE * total
        met = is_japanese == (code == "ja")
        return ValidationResult(met, None if met else f"it is in {'Japanese' if is_japanese else 'Chinese'}")
    return _compare_letters(text, code, total)


def _compare_words(text: str, code: str) -> ValidationResult:
    words = Counter(word.lower() for word in _WORD.findall(text))
    hits = {other: sum(words[word] for word in known.words) for other, known in _LANGUAGES.items() if known.words}
    # A tie goes to the wanted language: doubt isn't a reason to reject an answer.
    best = max(hits, key=lambda other: (hits[other], other == code))
    if hits[best] < _FEWEST_HITS:
        return ValidationResult(True, "it is too short to tell its language")
    # Related languages share many small words, so being ahead by a little tells nothing.
    if hits[best] > _CLEARLY * hits[code]:
        return ValidationResult(False, f"it seems to be in {_LANGUAGES[best].name}, not in {_LANGUAGES[code].name}")
    return ValidationResult(True)


def _compare_letters(text: str, code: str, total: int) -> ValidationResult:
    """Tell apart languages of one script by letters that only one of them has."""
    wanted = _LANGUAGES[code]
    low = text.lower()
    for other, known in _LANGUAGES.items():
        if other != code and known.scripts == wanted.scripts and known.letters:
            # Only letters unique to the other language are evidence; text without any could be either.
            theirs = sum(low.count(letter) for letter in known.letters)
            ours = sum(low.count(letter) for letter in wanted.letters)
            if theirs > _OWN_LETTERS_SHARE * total and theirs > 2 * ours:
                return ValidationResult(False, f"it seems to be in {known.name}, not in {wanted.name}")
    return ValidationResult(True)


@lru_cache(maxsize=4096)
def _get_script(letter: str) -> str:
    # Python has no table of scripts, but the names of letters begin with the script, as in `CJK UNIFIED
    # IDEOGRAPH-4E00`.
    return unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0]
