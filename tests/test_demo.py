"""What the demo prints can be pasted."""

from __future__ import annotations

import subprocess

from tests_support import ROOT


def test_a_command_that_the_demo_prints_does_the_same_when_it_is_pasted():
    demo = (ROOT / "scripts" / "demo").read_text()
    functions = demo[demo.index("quote=") : demo.index("echo")]
    command = """run printf '%s|' plain 'two words' '{"json":[1]}' "it's" '' '$HOME' 'a;b' '…'"""
    printed, _, done = subprocess.check_output(["bash", "-c", functions + command], text=True).partition("\n")
    assert printed.startswith("$ printf ")
    assert done == """plain|two words|{"json":[1]}|it's||$HOME|a;b|…|"""
    assert subprocess.check_output(["bash", "-c", printed.removeprefix("$ ")], text=True) == done
