"""What gates found, in HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence

from carla_mlflow.report.page import link, safe
from registry.rules.judged import Judged

_RUN = re.compile(r"(https?://\S*?/runs/)([0-9a-f]{32})")


def findings_list(findings: Sequence[Judged], failed: str, notes: Sequence[str] = ()) -> str:
    """A list of findings.

    Args:
        findings: of gates.
        failed: what is said of one that did not pass: refused, or overruled.
        notes: what stands below them.
    """
    items = [f"<li>{_verdict(each.passed, failed)} {_linked(f'{each.gate}: {each.text}')}</li>" for each in findings]
    items += [f"<li>{safe(text)}</li>" for text in notes]
    return f"<ul>{''.join(items)}</ul>"


def _verdict(passed: bool, failed: str) -> str:
    return '<span class="good">passed</span>' if passed else f'<span class="doubtful">{failed}</span>'


def _linked(text: str) -> str:
    """The text, in which pages of runs are links."""
    parts, end = [], 0
    for found in _RUN.finditer(text):
        parts += [safe(text[end : found.start()]), link(f"run {found[2][:8]}", found[0])]
        end = found.end()
    return "".join([*parts, safe(text[end:])])
