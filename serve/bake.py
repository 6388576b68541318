"""python -m serve.bake ARTIFACT FOLDER: verifies one policy and copies it into a container image, with its digest.

A server with no --model whose POLICY_BAKED names that folder serves this policy, pinned to the digest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from carla_mlflow import Engine, open_artifact, write_artifact
from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.preprocessing.trust_types import operators_types
from serve.baked import DIGEST, POLICY


def bake(source: Path, folder: Path, trusted: Sequence[str] = ()) -> str:
    """Copies an artifact after it was opened, loaded and checked on its golden observations; returns its digest.

    Args:
        source: folder of the artifact.
        folder: destination of the copy and its digest.
        trusted: types allowed in its preprocessor.skops beyond the built-in list.

    Raises:
        CarlaMlflowError: the artifact is damaged, or acts differently on this machine.
    """
    artifact = open_artifact(source)
    Engine(artifact, "cpu", trusted=trusted)
    folder.mkdir(parents=True, exist_ok=True)
    written = write_artifact(folder / POLICY, artifact)
    (folder / DIGEST).write_text(written.digest + "\n")
    return written.digest


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m serve.bake", description=__doc__.partition("\n\n")[2])
    parser.add_argument("artifact", type=Path, help="the policy's folder")
    parser.add_argument("folder", type=Path, help="destination folder")
    parser.add_argument(
        "--trust-types", metavar="A,B", help="types trusted in preprocessor.skops (or POLICY_TRUST_TYPES)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        print(bake(options.artifact, options.folder, operators_types(options.trust_types)))
    except (CarlaMlflowError, OSError) as error:
        print(f"bake: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
