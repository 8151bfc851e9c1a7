"""Classify 2,000 mails overnight within a budget, and resume after a kill without repeating any request.

Run it: uv run docs/examples/classify_mails.py
Needs: no model; a script stands in for it

In the first night the process is killed, in the second the budget is used up, and in the third the rest is finished.
All of this takes seconds, since no model is called. A real budget is `Budget(cost=2.50)`, in dollars.
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
from mellea.batch import Budget, Journal
from mellea.core import Usage
from mellea.errors import BudgetExceededError
from mellea.testing import Pause, ScriptedBackend

SUBJECTS = ["Invoice 17 is due", "The printer is broken", "Lunch on Friday?", "Refund, please"]


@dataclass
class Mail:
    topic: Literal["billing", "support", "other"]
    urgency: int


def answer(request):
    """Stand in for a model: it takes 10 ms and 50 tokens for an answer."""
    text = request.messages[-1].text
    topic = "billing" if "Invoice" in text or "Refund" in text else "support" if "broken" in text else "other"
    return [Pause(0.01), f'{{"topic": "{topic}", "urgency": {3 if topic == "support" else 1}}}']


@mellea.generative(session=mellea.MelleaSession(ScriptedBackend(answer, usage=Usage(40, 10))))
def classify(subject: str) -> Mail:
    """Classify a mail by its subject."""
    ...


def work(journal: str, tokens: int) -> None:
    mails = ({"id": f"mail-{n}", "subject": SUBJECTS[n % len(SUBJECTS)]} for n in range(2000))
    topics: dict[str, int] = {}
    asked = 0
    end = ""
    try:
        for row in mellea.map(classify, mails, id="id", journal=journal, concurrency=16, budget=Budget(tokens=tokens)):
            topics[row.value.topic] = topics.get(row.value.topic, 0) + 1
            asked += not row.cached
    except BudgetExceededError:
        end = "the budget is used up; the rest waits for the next night\n"
    print(f"{end}{sum(topics.values())} mails: {topics}; {asked} of them were asked for in this run", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = os.path.join(folder, "mails.db")
        process = subprocess.Popen([sys.executable, __file__, journal, "100000"])
        while not os.path.exists(journal) or len(list(itertools.islice(Journal(journal).answers(), 100))) < 100:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        process.wait()
        kept = len(list(Journal(journal).answers()))
        print(f"killed; the journal has {'at least 100' if kept >= 100 else kept} answers", flush=True)
        for tokens in ("40000", "100000"):
            if code := subprocess.run([sys.executable, __file__, journal, tokens], check=False).returncode:
                sys.exit(code)
        print("nothing twice:", len(list(Journal(journal).answers())) == 2000)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 2 else main()
