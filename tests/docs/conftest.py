from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.chapters import Chapters, chapters


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chapters]:
    """What runs chapters and examples."""
    with chapters(tmp_path_factory.mktemp("chapters")) as python:
        yield python
