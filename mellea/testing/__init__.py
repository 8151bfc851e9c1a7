"""Test generative programs without a model: a scripted backend, and a contract suite for backends."""

# May import: backends, core. Nothing in the package imports this room. Read `scripted.py` first.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.testing.contract import BackendContract
from mellea.testing.observing import RecordingObserver
from mellea.testing.replay import replay
from mellea.testing.scripted import Gate, Pause, ScriptedBackend

__all__ = ["BackendContract", "Gate", "Pause", "RecordingObserver", "ScriptedBackend", "replay"]

if not TYPE_CHECKING:  # type checkers see only our names
    __getattr__ = lazily(__name__, {})  # for names that others have
