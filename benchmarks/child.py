"""Measures one figure in a fresh process: `python -m benchmarks.child FIGURE PAIRS QUICK URL` prints JSON.

For each line that it reads it measures once more, so that two checkouts can take turns.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from benchmarks.figures import FIGURES
from benchmarks.pairs import Setting, Skipped

if __name__ == "__main__":
    name, pairs, is_quick, url = sys.argv[1:]
    for _ in sys.stdin:
        try:
            found = asdict(FIGURES[name].measure(Setting(int(pairs), is_quick == "quick", url)))
        except Skipped as reason:
            found = {"skipped": str(reason)}
        print(json.dumps(found), flush=True)
