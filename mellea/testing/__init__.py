"""What it takes to test a generative program without a model: a scripted backend, a contract suite, a server.

May import: backends, core. Nothing in the package imports this room. Read `scripted.py` first.
"""

from mellea.testing.scripted import Gate, Pause, ScriptedBackend

__all__ = ["Gate", "Pause", "ScriptedBackend"]
