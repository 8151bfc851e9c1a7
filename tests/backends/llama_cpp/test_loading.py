"""A terminal is told while a large model is being loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mellea.backends.llama_cpp import engine
from mellea.errors import ConfigurationError
from tests.core.test_progress import Terminal


@pytest.mark.parametrize(("size", "told"), [(600 * 10**6, "loading big (0.6 GB)"), (100 * 10**6, "")])
def test_a_terminal_is_told_of_a_large_model(
    size: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, terminal, seen = tmp_path / "big.gguf", Terminal(), []
    with file.open("wb") as sparse:
        sparse.truncate(size)
    settings = engine.EngineSettings(str(file), "big", 128, 1, 1)

    def load(*arguments: Any, **options: Any) -> None:
        seen.append(terminal.screen)
        raise ConfigurationError("it is damaged")

    monkeypatch.setattr(engine, "open_server", load)
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(ConfigurationError, match="damaged"):
        engine.Engine(settings).load()
    assert seen == [told] and terminal.screen == ""
