"""Opens the source options to `carla-export`: finds its kind, and reads the TrainedPolicy from it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import CardError, ExportError
from carla_mlflow.preprocessing.skops_file import load_preprocessor
from training_export.sources.draft import CardDraft, NoActionError, OtherActionsError, read_draft
from training_export.sources.from_env import takes_of_env, with_env
from training_export.sources.importing import make_importable
from training_export.sources.preprocessed import Prepare, Preprocessed, no_preprocessor, preprocessed
from training_export.sources.trained import TrainedPolicy
from training_export.sources.untrusted import read_pickle

_PREPROCESSOR = re.compile(r".*(preproc|scaler|normali[sz]er)\w*\.(skops|pkl|pickle|joblib)", re.IGNORECASE)
"""Usual names of a fitted transformer's file."""


@dataclass(frozen=True)
class SourceOptions:
    """The user's arguments.

    Attributes:
        source: path, target or run URI.
        card: the author's sections, or None.
        preprocessor: a fitted transformer's file (.skops, or a pickle), or None.
        vecnormalize: VecNormalize's pickle, or None.
        no_vecnormalize: whether the user says that there was no VecNormalize.
        trust_pickle: whether pickles may be read.
        trust_types: the user's own types that preprocessor.skops may hold.
        env: the environment that the policy was trained in, which may say what its actions mean, or None.
        env_name: of that environment, for the card.
    """

    source: str
    card: Path | None = None
    preprocessor: Path | None = None
    vecnormalize: Path | None = None
    no_vecnormalize: bool = False
    trust_pickle: bool = False
    trust_types: tuple[str, ...] = ()
    env: Any = None
    env_name: str = ""


@dataclass(frozen=True)
class Opened:
    """An opened source: its kind, the policy, the draft of its card, and the MLflow run it is from."""

    kind: str
    trained: TrainedPolicy
    draft: CardDraft
    run_id: str | None = None


def open_source(options: SourceOptions) -> Opened:
    """Opens a source of any kind.

    Raises:
        ExportError: it is not a source, or can't become a policy.
        CardError: its card is missing, or does not fit it.
    """
    draft = read_draft(options.card) if options.card else CardDraft()
    opened = _opened(options, draft) if options.env is None else _opened_with_env(options, draft)
    draft = opened.draft
    if draft.state and draft.state != opened.trained.states:
        own = ", ".join(opened.trained.states) or "none"
        raise ExportError(f"{options.source}: the card's section `state` is not the policy's own: {own}; leave it out")
    return opened


def _opened_with_env(options: SourceOptions, own: CardDraft) -> Opened:
    """As `_opened`; what the author did not write is not blamed on a card."""
    draft = with_env(own, options.env, options.env_name)
    try:
        return _opened(options, draft)
    except OtherActionsError as error:
        if draft.action == own.action:
            raise
        raise CardError(
            f"--env {options.env_name} takes {takes_of_env(options.env)}, the policy gives {error.gives}; pass the "
            "--env-config of training"
        ) from error
    except NoActionError as error:
        raise CardError(
            f"--env {options.env_name}: not highway-env's DiscreteMetaAction or ContinuousAction, so that it does not "
            f"say what the actions mean; {error}"
        ) from error


def _opened(options: SourceOptions, draft: CardDraft) -> Opened:
    path = Path(options.source)
    if options.source.startswith("runs:/"):
        return _from_run(options.source, draft)
    if ":" in options.source and not path.exists():
        from training_export.sources.from_module import from_module

        return Opened("torch module", from_module(options.source, draft, _prepare(options)), draft)
    if path.is_dir():
        return _from_folder(path, draft, options)
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file or folder")
    if path.suffix in _FILES:
        return _FILES[path.suffix](path, draft, options)
    code = f"; of {path} the function that returns a torch module: {path}:build" if path.suffix == ".py" else ""
    raise ExportError(f"{path}: expected .zip (Stable-Baselines3), .pt (TorchScript) or .onnx{code}")


def _prepare(options: SourceOptions) -> Prepare:
    path = options.preprocessor
    if path is None:
        return no_preprocessor

    def prepare(specs: ObservationSpec) -> Preprocessed:
        if not path.is_file():
            raise ExportError(f"{path}: there is no such file")
        if path.suffix == ".skops":
            transformer = load_preprocessor(path.read_bytes(), options.trust_types)
        else:
            transformer = read_pickle(path, options.trust_pickle)
        return preprocessed(transformer, specs, options.trust_types)

    return prepare


def _from_run(source: str, draft: CardDraft) -> Opened:
    import mlflow
    from mlflow.exceptions import MlflowException

    from carla_mlflow.flavor.runs import expand_latest

    run_id = expand_latest(source).removeprefix("runs:/").partition("/")[0]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="checkpoint", dst_path=scratch)
        except (MlflowException, OSError) as error:
            raise ExportError(f"runs:/{run_id}: has no checkpoint: {error}") from error
        try:
            return replace(_from_checkpoint(Path(folder), draft), run_id=run_id)
        except ExportError as error:  # names the run, not the temporary folder
            raise ExportError(str(error).replace(str(Path(folder)), f"runs:/{run_id}/checkpoint")) from error


def _from_folder(path: Path, draft: CardDraft, options: SourceOptions) -> Opened:
    from training_export.sources.from_old import draft_of_old, from_old, is_old_artifact

    if is_old_artifact(path):
        draft = draft_of_old(path, draft)
        return Opened(
            "artifact of the old layout", from_old(path, draft, options.trust_pickle, options.trust_types), draft
        )
    if (path / "model_card.yaml").is_file():
        raise ExportError(f"{path}: already is a policy artifact; register or serve it as it is")
    return _from_checkpoint(path, draft)


def _from_checkpoint(path: Path, draft: CardDraft) -> Opened:
    from training_export.sources.from_checkpoint import from_checkpoint
    from training_export.training.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(path)
    trained = from_checkpoint(checkpoint)
    description = draft.description or f"PPO on {trained.training['env']}, {checkpoint.steps:,} steps"
    return Opened("training checkpoint", trained, msgspec.structs.replace(draft, description=description))


def _from_sb3(path: Path, draft: CardDraft, options: SourceOptions) -> Opened:
    from training_export.sources.sb3.source import from_sb3

    if options.trust_pickle:
        make_importable(*(file.parent for file in (path, options.card) if file is not None))
    trained = from_sb3(path, draft, options.vecnormalize, options.trust_pickle, options.no_vecnormalize)
    return Opened(f"Stable-Baselines3 {trained.training['algorithm']}", trained, draft)


def _from_torchscript(path: Path, draft: CardDraft, options: SourceOptions) -> Opened:
    from training_export.sources.from_file import from_torchscript

    return Opened(
        "TorchScript", _note_preprocessor_beside(path, options, from_torchscript(path, draft, _prepare(options))), draft
    )


def _from_onnx(path: Path, draft: CardDraft, options: SourceOptions) -> Opened:
    from training_export.sources.from_file import from_onnx

    return Opened("ONNX", _note_preprocessor_beside(path, options, from_onnx(path, draft, _prepare(options))), draft)


def _note_preprocessor_beside(path: Path, options: SourceOptions, trained: TrainedPolicy) -> TrainedPolicy:
    """Records the assumption that a preprocessor which lies beside the network's file is not needed."""
    beside = [file.name for file in sorted(path.parent.iterdir()) if _PREPROCESSOR.fullmatch(file.name)]
    if options.preprocessor is not None or not beside:
        return trained
    assumed = (
        f"no preprocessor, although {', '.join(beside)} lies beside it; --preprocessor FILE puts it before the network"
    )
    return replace(trained, assumed="; ".join(filter(None, (trained.assumed, assumed))))


_FILES: dict[str, Callable[[Path, CardDraft, SourceOptions], Opened]] = {
    ".zip": _from_sb3,
    ".pt": _from_torchscript,
    ".pth": _from_torchscript,
    ".ts": _from_torchscript,
    ".onnx": _from_onnx,
}
