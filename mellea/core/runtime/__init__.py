"""The machines behind a thunk: what readers hold of a generation, what produces it, and who waits for whom.

It imports values of the core and its loops, and nothing above. Read `record.py` first.
"""

from mellea.core.runtime.deadlock import Hold, check_wait, held_up_loops, needs, runs_around
from mellea.core.runtime.producer import Emit, Parse, Run, cancel_all
from mellea.core.runtime.record import CLOSE_SECONDS, Record

__all__ = [
    "CLOSE_SECONDS",
    "Emit",
    "Hold",
    "Parse",
    "Record",
    "Run",
    "cancel_all",
    "check_wait",
    "held_up_loops",
    "needs",
    "runs_around",
]
