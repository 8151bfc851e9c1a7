"""What a run of the recorded traffic has tried, at the end of the test run."""

import pytest

from tests.backends.recorded import summary


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if line := summary():
        terminalreporter.write_line(line)
