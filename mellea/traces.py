"""Traces: what a program did, as it happened, and the extension point for whoever wants to be told."""

from mellea.core.observer import Observer, Span, add_observer, observe, remove_observer
from mellea.core.tracing import Trace, Tree, start

__all__ = ["Observer", "Span", "Trace", "Tree", "add_observer", "observe", "remove_observer", "start"]
