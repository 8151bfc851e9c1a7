"""OpenTelemetry spans and metrics for a program's calls, made from observers' events; off until switched on."""

# What lives here imports `mellea.core` and `mellea.errors`, and OpenTelemetry (the extra `telemetry`) once it is
# switched on. Read `switch.py` first, then `semconv.py`, which has all names, and `spans.py`.

from mellea._lazy_exports import lazily
from mellea.telemetry.switch import disable, enable, enable_from_environment

__all__ = ["disable", "enable", "enable_from_environment"]

__getattr__ = lazily(__name__, {})  # names of Mellea 0.8: the import says what to write instead
