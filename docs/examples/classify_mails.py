"""Classify mails overnight: the process is killed in the middle, started again, and asks for nothing twice.

Run it: uv run docs/examples/classify_mails.py
"""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Literal

import mellea
from mellea.batch import Journal
from mellea.testing import Pause, ScriptedBackend

SUBJECTS = ["Invoice 17 is due", "The printer is broken", "Lunch on Friday?", "Refund, please"]


@dataclass
class Mail:
    topic: Literal["billing", "support", "other"]
    urgency: int


def answer(request):
    """Stand in for a model, so that this runs anywhere: it takes 20 ms for an answer."""
    text = request.messages[-1].text
    topic = "billing" if "Invoice" in text or "Refund" in text else "support" if "broken" in text else "other"
    return [Pause(0.02), f'{{"topic": "{topic}", "urgency": {3 if topic == "support" else 1}}}']


@mellea.generative(session=mellea.MelleaSession(ScriptedBackend(answer)))
def classify(subject: str) -> Mail:
    """Classify a mail by its subject."""


def work(journal: str) -> None:
    mails = ({"id": f"mail-{n}", "subject": SUBJECTS[n % len(SUBJECTS)]} for n in range(400))
    topics: dict[str, int] = {}
    asked = 0
    for row in mellea.map(classify, mails, id="id", journal=journal, concurrency=8):
        topics[row.value.topic] = topics.get(row.value.topic, 0) + 1
        asked += not row.cached
    print(f"{sum(topics.values())} mails: {topics}; {asked} of them were asked for in this run")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = os.path.join(folder, "mails.db")
        process = subprocess.Popen([sys.executable, __file__, journal])
        while not os.path.exists(journal) or len(list(itertools.islice(Journal(journal).answers(), 100))) < 100:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        process.wait()
        kept = len(list(Journal(journal).answers()))
        print(f"killed; the journal has {'at least 100' if kept >= 100 else kept} answers", flush=True)
        subprocess.run([sys.executable, __file__, journal], check=True)
        print("nothing twice:", len(list(Journal(journal).answers())) == 400)


if __name__ == "__main__":
    work(sys.argv[1]) if len(sys.argv) > 1 else main()
