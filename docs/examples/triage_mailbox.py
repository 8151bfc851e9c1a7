"""Sort a mailbox into a table: who wrote, what it is about, and how they feel about it.

Run it: uv run docs/examples/triage_mailbox.py
Needs: the embedded model

The program makes its own mailbox. To sort yours, append the path of a file in mbox format to the command. The embedded
model chooses between two words at a time, which it does rather well. A bigger model fills in a whole class at once:
`-> Mail`.
"""

import asyncio
import mailbox
import sys
import tempfile
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import mellea
from mellea import generative

MAILS = [
    ("ann@example.org", "Thank you", "The kettle arrived early and works perfectly. I love it, thank you!"),
    ("bob@example.org", "Broken", "The lid broke after two days and nobody answers. I am very disappointed."),
    ("cid@example.org", "Invoice 17", "I paid invoice 17 twice. This is annoying, please send my money back."),
    ("dora@example.org", "So pretty", "My children adore the red cups. Wonderful quality, I am happy."),
]


@generative
async def topic(mail: str) -> Literal["delivery", "payment"]:
    """Classify the topic of the mail."""
    ...


@generative
async def mood(mail: str) -> Literal["happy", "unhappy"]:
    """Classify how the writer of the mail feels."""
    ...


def write_mailbox(path: Path) -> None:
    box = mailbox.mbox(path)
    for sender, subject, text in MAILS:
        mail = EmailMessage()
        mail["From"], mail["Subject"] = sender, subject
        mail.set_content(text)
        box.add(mail)
    box.close()


async def triage(box: mailbox.mbox) -> None:
    texts = [f"{mail['Subject']}: {str(mail.get_payload()).strip()}" for mail in box]
    # All questions are asked at once; the engine answers four at a time.
    answers = await mellea.gather(*[question(text) for text in texts for question in (topic, mood)])
    print(f"{'from':18} {'topic':10} {'mood':8} subject")
    for mail, about, feels in zip(box, answers[::2], answers[1::2], strict=True):
        print(f"{mail['From']:18} {about:10} {feels:8} {mail['Subject']}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, mellea.start_session(model_options={"temperature": 0}):
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder, "inbox.mbox")
        if len(sys.argv) == 1:
            write_mailbox(path)
        elif not path.is_file():
            sys.exit(f"There is no mailbox {str(path)!r}; name a file in mbox format, or none.")
        with closing(mailbox.mbox(path)) as box:
            asyncio.run(triage(box))


if __name__ == "__main__":
    main()
