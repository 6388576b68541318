"""What pytest says at the end only, for a run that does not get there: what failed, and which tests were under way."""

from __future__ import annotations

import time

import pytest


class ToldAtOnce:
    """A plugin of the process that gives the tests out. Of a run that CI ends before its summary, this much is kept."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager
        self._began: dict[str, float] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._began[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._began.pop(nodeid, None)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A line about a failure, between the dots."""
        if report.failed:
            reason = report.longreprtext.strip().splitlines()[-1:]
            self._say(f"FAILED {report.nodeid} ({report.when}, {report.duration:.0f} s)", *reason)

    def pytest_keyboard_interrupt(self) -> None:
        """Ctrl-C, which `.ci/run` sends when the time is over."""
        for nodeid, began in self._began.items():
            self._say(f"under way for {time.monotonic() - began:.0f} s: {nodeid}")

    def _say(self, *lines: str) -> None:
        if terminal := self._plugins.get_plugin("terminalreporter"):  # which is there later than this
            terminal.write("".join(f"\n{line}" for line in lines) + "\n")
