"""Have an invitation checked, by Python and by a judge, and repaired until it is right.

Run it: uv run docs/examples/instruct_validate_repair.py
Needs: the embedded model

The embedded model may miss a requirement in all its attempts, since it rarely understands what was wrong. A bigger
model meets all of them in the first or second attempt. The judge here is a script, because the embedded model can't
judge; in your program it is a bigger model, `Judge(get_backend("openai/…"))`, or the session's own, `Judge()`.
"""

import mellea
from mellea.stdlib.requirements import Judge, check, contains, req, simple_validate
from mellea.stdlib.sampling import RepairTemplateStrategy
from mellea.testing import ScriptedBackend

JUDGE = Judge(ScriptedBackend(lambda request: '{"reason": "It is friendly enough.", "verdict": "yes"}'))

says_when = simple_validate(lambda text: "10" in text, reason="it doesn't say when")
has_no_placeholder = simple_validate(lambda text: "[" not in text, reason="it has a placeholder")


def write_invitation(m: mellea.MelleaSession, name: str, notes: str) -> mellea.ComputedModelOutputThunk[str]:
    return m.instruct(
        "Invite {{name}} to a meeting in two sentences: {{notes}}",
        requirements=[
            contains(name, description=f"Greet {name} by her name."),
            req("Say that the meeting is at 10.", validation_fn=says_when),
            # `req` goes into the prompt as well; `check` is checked only.
            check("No [placeholders].", validation_fn=has_no_placeholder),
            check("The invitation is polite.", judge=JUDGE),
        ],
        user_variables={"name": name, "notes": notes},
        strategy=RepairTemplateStrategy(loop_budget=3),
    )


def main() -> None:
    with mellea.start_session(model_options={"seed": 11, "temperature": 0.6, "max_tokens": 80}) as m:
        invitation = write_invitation(m, "Olivia", "Tuesday at 10 in room 4.")
    attempts = invitation.sampling.attempts
    for attempt in attempts:
        print(f"== attempt {attempt.number}\n{attempt.output.value}\n")
        for requirement, result in attempt.validations:
            print(f"{'✓' if result else '✗'} {requirement}" + (f" ({result.reason})" if result.reason else ""))
        print()
    if invitation.success:
        print(f"All requirements are met after {len(attempts)} attempt(s).")
    else:
        print(f"No attempt met everything; attempt {invitation.sampling.chosen + 1} met most.")


if __name__ == "__main__":
    main()
