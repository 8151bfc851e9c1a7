"""The arguments of `mify`, declared once; a subclass of `MObject` takes them, too."""

# The annotations are objects here, not texts: signatures and docstrings are made of them.

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypedDict

__all__ = ["ViewArguments"]


class ViewArguments(TypedDict, total=False):
    """What a model sees of an object."""

    fields_include: Annotated[Iterable[str] | None, "the fields that the model sees, by name; properties work, too."]
    fields_exclude: Annotated[Iterable[str] | None, "the fields that it doesn't see."]
    funcs_include: Annotated[
        Iterable[str] | None, "the methods that are tools, by default the public ones with a docstring."
    ]
    funcs_exclude: Annotated[Iterable[str] | None, "the methods that aren't tools."]
    stringify_func: Annotated[Callable[[Any], str] | None, "makes the whole text that the model sees."]
    template: Annotated[str | None, "a Jinja2 template with the fields as its variables, or the name of one."]
