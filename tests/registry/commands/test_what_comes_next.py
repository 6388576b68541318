"""A command that ends well says the next one with its names; scripts get the result alone."""

from __future__ import annotations

from pathlib import Path

from tests_support import registry_here

NAME = "racetrack-policy"
FORCED = ("--force", "--reason", "a test")


def next_of(*arguments: str) -> str:
    done = registry_here(*arguments)
    assert done.code == 0, done.err
    return "".join(line.removeprefix("next: ") for line in done.out.splitlines() if line.startswith("next: "))


def test_each_move_leads_to_the_next_command(mlflow_home: Path, example: Path):
    assert next_of("register", str(example)) == f"python -m training_export evaluate {NAME}@0.1.0 --log"
    promote = ("promote", f"{NAME}@0.1.0", *FORCED)
    asked = next_of(*promote, "--to", "staging", "--dry-run")
    assert asked == f"carla-registry promote {NAME}@0.1.0 --to staging"
    assert next_of(*promote, "--to", "staging") == f"carla-registry promote {NAME}@0.1.0 --to production"
    assert next_of(*promote, "--to", "production") == f"carla-serve --model {NAME}@production"
    for reading in (["list"], ["show", f"{NAME}@0.1.0"], ["resolve", f"{NAME}@0.1.0"], ["history", NAME]):
        assert next_of(*reading) == ""
    assert next_of("archive", f"{NAME}@0.1.0", *FORCED) == f"carla-registry history {NAME}"


def test_neither_json_nor_a_refused_move_says_a_next_command(mlflow_home: Path, example: Path):
    done = registry_here("register", str(example), "--json")
    assert "next:" not in done.out + done.err
    refused = registry_here("promote", f"{NAME}@0.1.0", "--to", "production", "--dry-run")
    assert (refused.code, "next:" in refused.out) == (1, False)
