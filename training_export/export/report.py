"""What carla-export prints about a policy and its export."""

from __future__ import annotations

from collections.abc import Sequence

from carla_mlflow.contract.array_spec import UNSEEN
from training_export.export.compared import ReferenceAnswers
from training_export.export.export import Export
from training_export.export.rollouts import ReferenceRollouts
from training_export.sources.seen import unknown
from training_export.sources.trained import TrainedPolicy


def print_noise(reference: ReferenceAnswers | ReferenceRollouts, stated: bool, answered: Sequence[str]) -> None:
    """Prints the noise, and the tolerance, which the author `stated` or not; `answered` names what is answered."""
    parity, left, noise = reference.parity, reference.left_out, reference.noise.largest
    print(f"noise     run row by row, or in float64, the trained policy's own answers differ by up to {noise:.1e}")
    source = "as the card states" if stated else "4 times its noise and at least 1e-06"
    print(
        f"tolerance {parity.atol:.1e} + {parity.rtol:.0e} · |value|, {source}: how far {', '.join(answered)} and the "
        "values they are computed from may differ from the trained policy's, wherever the artifact is verified"
    )
    if isinstance(reference, ReferenceRollouts):
        print(
            f"memory    running freely over whole rollouts, it differs by up to {reference.drift:.1e}; "
            f"an exported policy may differ by {parity.free_running:.1e}"
        )
    if left:
        print(f"left out  {left} observations whose best two choices differ by less than that")


def print_comparison(exported: Export, trained: TrainedPolicy) -> None:
    for backend, difference in exported.differences.items():
        print(
            f"compared  {exported.rows:,} observations with the trained policy: largest difference {difference:.1e} "
            f"in {backend}"
        )
    for backend, reason in exported.left_out.items():
        print(f"left out  {backend}: {reason}")
    if trained.features is not None:
        print(
            "features  are computed outside the graph, by preprocessor.skops, which needs scikit-learn where the "
            "policy runs"
        )
    for backend, figures in exported.figures.items():
        times = ", ".join(f"{rows} rows {ms} ms" for rows, ms in figures.items())
        chosen = "  <- the card's backend" if backend == exported.artifact.card.backend else ""
        print(f"measured  {backend}: {times}{chosen}")


def print_unknown(trained: TrainedPolicy) -> None:
    names = unknown(trained.observation)
    if names:
        print(
            f"compares  {', '.join(names)} between {-UNSEEN:g} and {UNSEEN:g} only: neither bounds nor the range "
            "in training are known; state it in the card: observation: … seen: {low: …, high: …}"
        )


def facts(trained: TrainedPolicy) -> str:
    fields = ", ".join(f"{name} {field.dtype}{field.shape}" for name, field in trained.observation.items())
    return f"{fields} → {trained.action.head} {list(trained.action.raw)}, {trained.graph.size():,} parameters"
