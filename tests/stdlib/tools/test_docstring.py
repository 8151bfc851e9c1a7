"""Docstrings taken apart, in the three ways that sections are written."""

from mellea.stdlib.tools.docstring import parse_docstring

GOOGLE = """Look up the weather.

    It is fresh.

    Args:
        city (str): where,
            with the country.
        days: how many days

    Returns:
        The weather, in words.

    Raises:
        KeyError: no such city.

    Example:
        weather("Rome") -> "sunny"

    Thanks for asking.
    """

NUMPY = """Look up the weather.

    Parameters
    ----------
    city : str
        where,
        with the country.
    days, hours : int, optional
        how many

    Returns
    -------
    str
        The weather, in words.
    """

SPHINX = """Look up the weather.

    :param str city: where,
        with the country.
    :param days: how many days
    :type days: int
    :returns: The weather, in words.
    :raises KeyError: no such city.

    It is fresh.
    """


def test_google_sections() -> None:
    doc = parse_docstring(GOOGLE)
    assert doc.text == "Look up the weather.\n\nIt is fresh.\n\nThanks for asking."
    assert doc.arguments == {"city": "where, with the country.", "days": "how many days"}
    assert doc.sections == {
        "Returns": "The weather, in words.",
        "Raises": "KeyError: no such city.",
        "Examples": 'weather("Rome") -> "sunny"',
    }


def test_numpy_sections() -> None:
    doc = parse_docstring(NUMPY)
    assert doc.text == "Look up the weather."
    assert doc.arguments == {"city": "where, with the country.", "days": "how many", "hours": "how many"}
    assert doc.sections == {"Returns": "str\n    The weather, in words."}


def test_sphinx_fields() -> None:
    doc = parse_docstring(SPHINX)
    assert doc.text == "Look up the weather.\n\nIt is fresh."
    assert doc.arguments == {"city": "where, with the country.", "days": "how many days"}
    assert doc.sections == {"Returns": "The weather, in words.", "Raises": "KeyError: no such city."}


def test_a_docstring_without_sections_is_all_text() -> None:
    text = "Answer like this:\n\nHello: a greeting.\n    indented\nParameters matter."
    doc = parse_docstring(text)
    assert (doc.text, dict(doc.arguments), dict(doc.sections)) == (text, {}, {})


def test_no_docstring_is_an_empty_one() -> None:
    assert parse_docstring(None).text == parse_docstring("").text == ""


def test_google_types_may_have_brackets_of_their_own() -> None:
    text = """Do.

    Args:
        f (Callable[[int], str] (optional)): what, see: this
        g (tuple(int, str)):
            more
    """
    assert parse_docstring(text).arguments == {"f": "what, see: this", "g": "more"}


def test_a_numpy_section_ends_at_any_title() -> None:
    text = """Do.

    Parameters
    ----------
    a : {'x', 'y'}
        which
    b: int, default 3

    See Also
    --------
    other : does more

    Yields
    ------
    int
        a number
    """
    doc = parse_docstring(text)
    assert doc.text == "Do."
    assert doc.arguments == {"a": "which", "b": ""}
    assert doc.sections == {"See Also": "other : does more", "Returns": "int\n    a number"}


def test_a_line_of_dashes_in_a_text_is_no_section() -> None:
    text = "A table:\n\nname\n----\nAnn"
    assert parse_docstring(text).text == text


def test_sphinx_fields_of_a_generator() -> None:
    doc = parse_docstring(
        "Do.\n\n:param dict[str, int] a: what\n:yields: numbers\n:exception KeyError: never\n:rtype: int"
    )
    assert doc.arguments == {"a": "what"}
    assert doc.sections == {"Returns": "numbers", "Raises": "KeyError: never"}
