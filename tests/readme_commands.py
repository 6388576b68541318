"""The commands that the tutorial, the guides and README show, and where each of them is run by a test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from tests_support import ROOT

ELSEWHERE = {
    "make demo": "scripts/wheel-demo runs scripts/demo",
    "make test": "this is it",
    "make setup": "made the environment of this test",
    "source .venv/bin/activate": "the environment of this test",
    "mlflow ui": "tests/registry/moves/test_mlflow_ui.py",
    "make image": "tests/test_image.py",
    "docker run": "tests/test_image.py",
    "docker build": "tests/test_image.py",
    "deploy/compose/secrets": "tests/test_compose_by_hand.py",
    "kubectl apply": "tests/test_deploy.py",
    "pip install 'carla-mlflow[ray]'": "tests/serve/cluster/test_ray.py",
    "python -m serve score … --ray": "tests/serve/cluster/test_ray.py",
    "mlflow models serve": "tests/serve/web/test_beside_mlflow.py",
    "curl localhost:5001": "tests/serve/web/test_beside_mlflow.py",
    "python -m training_export train --traffic 4": "takes an hour; as the line above it",
    "carla-export checkpoint --output": "as in the tutorial, with more episodes",
    "carla-export policy.": "tests/test_recipes.py",
    "carla-export rsl_rl": "tests/test_recipes.py",
    "carla-export cleanrl": "tests/test_recipes.py",
    "carla-export rllib": "tests/test_recipes.py",
    "carla-export torchrl": "tests/test_recipes.py",
    "carla-export my_policy.py:build": "tests/training_export/sources/test_sources.py",
    "carla-export ppo.zip": "tests/training_export/sources/sb3/test_archive.py",
    # with a network that was nudged, and in shorter episodes: learning to drive takes minutes
    "carla-export lanes.zip": "tests/training_export/test_meta_actions.py",
    "carla-registry register policies/lanes": "tests/training_export/test_meta_actions.py",
    "python -m training_export evaluate lanes": "tests/training_export/test_meta_actions.py",
    "carla-registry promote lanes": "tests/training_export/test_meta_actions.py",
    "carla-serve --model lanes": "tests/training_export/test_meta_actions.py",
    "carla-export network.onnx": "tests/training_export/sources/test_sources.py",
    "python -m carla_mlflow.testing http": "tests/carla_mlflow/testing/test_testing.py",
    "python -m carla_mlflow.testing policies": "tests/carla_mlflow/testing/test_testing.py",
    "python -m training_export evaluate mine@0.2.0 --log --env": "tests/training_export/evaluation/test_own_env.py",
    "python -m training_export log-evidence": "tests/training_export/evaluation/test_reported.py",
    "carla-registry migrate": "tests/training_export/sources/test_sources.py",
    "carla-registry register policies/mine-0.1.0 --bump auto": "tests/registry/moves/test_registering.py",
    "carla-registry completion": "tests/carla_mlflow/test_completion.py",
    "carla-registry doctor": "tests/registry/commands/test_doctor.py",
    "carla-registry watch": "tests/registry/moves/test_mlflow_ui.py",
    "carla-serve --model policies/@^0.1": "tests/serve/following/test_folder_of_versions.py",
    "carla-serve --model mine@production --host": "tests/serve/process/test_unix_socket.py",
    "carla-serve --host unix": "tests/serve/process/test_unix_socket.py",
    "python -m carla_mlflow.testing unix": "tests/serve/process/test_unix_socket.py",
    "leaderboard_evaluator.py": "tests/carla_agent/test_leaderboard_agent.py",
    "pip install 'carla-mlflow[serve,score]'": "scripts/wheel-demo asks a bare installation for it",
    "pip install 'carla-mlflow[replay]'": "scripts/wheel-demo asks a bare installation for it",
    "python -m carla_agent drive": "tests/carla_agent/drive/test_drive.py",
    "carla-serve --model carla-policy@production --record": "tests/serve/record/test_server_records.py",
    "carla-serve --model mine@production --record": "tests/serve/record/test_server_records.py",
    "python -m serve replay": "tests/serve/replay/test_of_server.py",
    "carla-serve --model mine@production --shadow": "tests/serve/shadow/test_shadow_server.py",
    "carla-serve --model policies/1.0.0 --shadow": "tests/serve/shadow/test_shadow_server.py",
    "carla-registry promote mine@0.2.0 --to canary": "tests/registry/commands/test_canary.py",
    'carla-registry promote mine@0.2.0 --to production --reason "drove well"': "tests/registry/commands/test_canary.py",
    "carla-registry rollback mine --stage canary": "tests/registry/commands/test_canary.py",
    "carla-serve --model mine@production --canary": "tests/serve/following/test_canary.py",
    "carla-registry promote mine@0.2.0 --to production --bake": "tests/registry/commands/test_bake_commands.py",
    "carla-registry gates mine --set gate.driving.margin=0.02 gate.sh": "tests/registry/commands/test_bake_commands.py",
    "carla-registry guard": "tests/serve/following/test_guarded_servers.py",
    "carla-registry compare": "tests/serve/following/test_guarded_servers.py",
    "python -m training_export evaluate mine@0.2.0 --log --latency": "tests/training_export/evaluation/test_latency.py",
    "python -m training_export evaluate mine@0.2.0 --latency": "tests/training_export/evaluation/test_latency.py",
    "python -m training_export evaluate mine@0.2.0 --through": "tests/training_export/evaluation/test_latency.py",
    "python -m training_export evaluate mine@0.1.0 --latency": "tests/training_export/evaluation/test_latency.py",
    "python -m benchmarks.latency": "takes four minutes of a core; by hand, when its figures are to be written anew",
    "python3.11 -m venv /opt": "a car of its own: this line and those below it; tests/test_deploy.py checks the unit",
    "useradd": "tests/test_deploy.py",
    "groupadd": "tests/test_deploy.py",
    "install -d /opt": "tests/test_deploy.py",
    "cp deploy/systemd": "tests/test_deploy.py",
    "systemctl": "tests/test_deploy.py",
    "curl --unix-socket": "tests/serve/process/test_unix_socket.py",
    "carla-serve --model mine@production --certfile": "tests/serve/wire/test_accepting.py",
    "carla-serve --model mine@production --also": "tests/serve/following/test_also.py",
    "carla-serve --model mine@production --cors-origins": "tests/serve/wire/test_framing.py",
    "carla-serve --model mine@production --allowed-hosts": "tests/serve/wire/test_framing.py",
    "carla-serve --model mine@production --log-format": "tests/serve/telemetry/test_observing.py",
    "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 carla-serve": "tests/serve/telemetry/test_observing.py",
    "POLICY_API_KEY=… carla-serve": "tests/serve/wire/test_framing.py",
    "POLICY_WEBHOOK_SECRET=… carla-serve": "tests/serve/web/test_hooks.py",
    "carla-registry verify policies/mine-0.1.0": "tests/registry/checks/test_verify.py",
    "carla-registry diff mine@production mine@0.2.0 --html": "tests/registry/moves/test_pages_in_browser.py",
    "carla-registry history mine --html": "tests/registry/moves/test_pages_in_browser.py",
    'carla-registry promote mine@0.2.0 --to production --reason "brakes': "tests/registry/commands/test_commands.py",
}
"""Prefix of a command → who else runs it."""


CODE = re.compile(r"```.*?```", re.DOTALL)
COMMAND = re.compile(r"^    (?![ {`]|.*──►|train, export,|measure, log)(\S.*)$", re.MULTILINE)


def documented_commands() -> list[str]:
    """Every command once, where a reader meets it first: without its comment and what is optional in it."""
    found: dict[str, None] = {}
    for page in pages():
        text = CODE.sub("", (ROOT / page).read_text().replace("\\\n", " "))
        for command in COMMAND.findall(text):
            found[re.sub(r"\s+", " ", re.sub(r"\s+#.*|\s\[[^\]]*\]", "", command)).strip()] = None
    return list(found)


def pages() -> list[str]:
    """The tutorial, the guides in the site's order, the other pages that show commands, and README."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    guides = [f"docs/{page}" for page in _pages(site) if page.startswith("how-to/")]
    return [
        "docs/tutorial.md",
        *guides,
        "docs/reference/card.md",
        "docs/reference/commands.md",
        "docs/index.md",
        "README.md",
    ]


def _pages(entry: Any) -> Iterator[str]:
    """The files below an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
    else:
        for below in entry if isinstance(entry, list) else entry.values():
            yield from _pages(below)
