"""The commands that README shows, and where each of them is run by a test."""

from __future__ import annotations

import re

from tests_support import ROOT

ELSEWHERE = {
    "make demo": "scripts/wheel-demo runs scripts/demo",
    "make test": "this is it",
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
    "carla-serve --model policies/@^0.1": "tests/serve/following/test_folder_of_versions.py",
    "carla-serve --model mine@production --host": "tests/serve/process/test_unix_socket.py",
    "python -m carla_mlflow.testing unix": "tests/serve/process/test_unix_socket.py",
    "pip install 'carla-mlflow[carla]'": "scripts/wheel-demo asks a bare installation for it",
    "python -m carla_agent drive": "tests/carla_agent/drive/test_drive.py",
    "carla-serve --model mine@production --record": "tests/serve/record/test_server_records.py",
    "python -m serve replay": "tests/serve/replay/test_of_server.py",
    "carla-serve --model mine@production --shadow": "tests/serve/shadow/test_shadow_server.py",
    "carla-registry promote mine@0.2.0 --to canary": "tests/registry/commands/test_canary.py",
    "carla-serve --model mine@production --canary": "tests/serve/following/test_canary.py",
    "carla-registry promote mine@0.2.0 --to production --bake": "tests/registry/commands/test_bake_commands.py",
    "carla-registry guard": "tests/serve/following/test_guarded_servers.py",
    "carla-registry compare": "tests/serve/following/test_guarded_servers.py",
    "python -m training_export evaluate mine@0.2.0 --log --latency": "tests/training_export/evaluation/test_latency.py",
    "carla-serve --model mine@production --certfile": "tests/serve/wire/test_accepting.py",
}
"""Prefix of a command → who else runs it."""


def readme_commands() -> list[str]:
    """Every command, as it stands there but for its comment and what is optional in it."""
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    blocks = re.findall(
        r"^    (?![ {]|.*──►|train, export,|measure, log)(\S.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M
    )
    return [re.sub(r"\s+", " ", re.sub(r"\s+#.*|\s\[[^\]]*\]", "", block)).strip() for block in blocks]
