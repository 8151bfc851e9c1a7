"""The machinery behind a thunk: the record that readers hold, the producer of a generation, and their waits."""

# It imports values of the core and its loops, and nothing above. Read `record.py` first, then `producer.py` and
# `launch.py`.

from mellea.core.runtime.corrector import Corrector
from mellea.core.runtime.deadlock import Hold, check_wait, find_held_up_loops, needs, runs_around
from mellea.core.runtime.launch import LaunchArguments, Register, Registering, cancel_all, launch, send
from mellea.core.runtime.producer import Parse, Run
from mellea.core.runtime.record import CLOSE_SECONDS, Record
from mellea.core.runtime.source import Hooks, change_request

__all__ = [
    "CLOSE_SECONDS",
    "Corrector",
    "Hold",
    "Hooks",
    "LaunchArguments",
    "Parse",
    "Record",
    "Register",
    "Registering",
    "Run",
    "cancel_all",
    "change_request",
    "check_wait",
    "find_held_up_loops",
    "launch",
    "needs",
    "runs_around",
    "send",
]
