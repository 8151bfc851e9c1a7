"""Write an e-mail, check it by Python and by a judge, and have what is wrong repaired.

Run it: uv run docs/examples/instruct_validate_repair.py
Needs: the embedded model

The embedded model rarely understands what was wrong, so its best attempt may fail a requirement. A bigger model meets
all of them at the first or second attempt.
"""

import mellea
from mellea.stdlib.requirements import Judge, check, contains, req, simple_validate
from mellea.stdlib.sampling import RepairTemplateStrategy

LATE = "it doesn't say when"


def write_mail(m: mellea.MelleaSession, name: str, notes: str) -> mellea.ComputedModelOutputThunk[str]:
    polite = Judge(model_options={"temperature": 0})  # the session's own model; judges may be others
    return m.instruct(
        "Write a short e-mail that invites {{name}} to the meeting. Use these notes: {{notes}}",
        requirements=[
            contains("Olivia", description="Greet Olivia by her name."),
            req(
                "Say that the meeting is at 10.", validation_fn=simple_validate(lambda text: "10" in text, reason=LATE)
            ),
            check(
                "No [placeholders].", validation_fn=simple_validate(lambda text: "[" not in text)
            ),  # not in the prompt
            req("The e-mail is polite.", judge=polite),
        ],
        user_variables={"name": name, "notes": notes},
        strategy=RepairTemplateStrategy(loop_budget=3),
    )


def main() -> None:
    with mellea.start_session(model_options={"seed": 1, "temperature": 0.7, "max_tokens": 70}) as m:
        mail = write_mail(m, "Olivia", "Tuesday at 10, room 4, bring the budget.")
        for attempt in mail.sampling.attempts:
            print(f"== attempt {attempt.number}\n{attempt.output.value}\n")
            for requirement, result in attempt.validations:
                print(f"{'✓' if result else '✗'} {requirement}" + (f" ({result.reason})" if result.reason else ""))
            print()
        if mail.success:
            print(f"All requirements are met after {len(mail.sampling.attempts)} attempts, {mail.sampling.usage}.")
        else:
            print(
                f"No attempt met everything; number {mail.sampling.chosen + 1} met most. strict=True would have raised."
            )


if __name__ == "__main__":
    main()
