"""An artifact of the original project's layout → a TrainedPolicy.

    vX.Y.Z/
      model.pt           TorchScript: features (B, F) → action (B, A)
      preprocessor.pkl   a fitted scikit-learn transformer, pickled, or one of the project's own classes as a pickle
                         or as JSON; may be missing
      model_card.yaml    name, version, prose; no format, no specs

The layout does not record the shapes and bounds of observations, which come from the author (`--observation`); the
three controls and their order, which it fixes, are in this module.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from carla_mlflow.contract.field_card import observation_spec
from carla_mlflow.contract.strict_yaml import read_yaml
from carla_mlflow.errors import CardError
from training_export.sources.draft import ActionDraft, CardDraft, complete
from training_export.sources.from_file import load_script
from training_export.sources.from_module import from_network
from training_export.sources.original_preprocessor import OriginalFeatures, read_original
from training_export.sources.preprocessed import Preprocessed, flat_input, preprocessed
from training_export.sources.trained import TrainedPolicy
from training_export.sources.untrusted import read_pickle

MODEL, PREPROCESSOR, CARD = "model.pt", "preprocessor.pkl", "model_card.yaml"
ACTION = ActionDraft(
    control="throttle_brake_steer",
    raw={"throttle": (0.0, 1.0), "brake": (0.0, 1.0), "steer": (-1.0, 1.0)},
    head="deterministic",
)


def is_old_artifact(folder: Path) -> bool:
    """Whether a folder has the original layout: a model, and a card without `format` (or none)."""
    card = folder / CARD
    if not (folder / MODEL).is_file():
        return False
    return not card.is_file() or not re.search(rb"^format:", card.read_bytes(), re.MULTILINE)


def draft_of_old(folder: Path, draft: CardDraft) -> CardDraft:
    """The author's draft, completed from the old card and the folder's name.

    Raises:
        CardError: the old card is not YAML, or there is no observation section.
    """
    if draft.observation is None:
        raise CardError(
            f"{folder.name}: the old layout does not record observation specs: pass a YAML file with an observation "
            "section (carla-export: --card FILE; carla-registry migrate: --observation FILE)"
        )
    old: Any = read_yaml((folder / CARD).read_bytes()) if (folder / CARD).is_file() else None
    stated = {key: str(old[key]) for key in ("name", "model_name", "version", "description") if _has(old, key)}
    version = stated.get("version", folder.name).removeprefix("v")
    return msgspec.structs.replace(
        draft,
        action=draft.action or ACTION,
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", stated.get("name", stated.get("model_name", draft.name))),
        version=version if re.fullmatch(r"\d+\.\d+\.\d+", version) else draft.version,
        description=draft.description or stated.get("description", ""),
        training={"migrated_from": folder.name, **draft.training},
    )


def _has(card: Any, key: str) -> bool:
    return isinstance(card, dict) and isinstance(card.get(key), str | float | int)


def from_old(folder: Path, draft: CardDraft, trust_pickle: bool, trusted: tuple[str, ...] = ()) -> TrainedPolicy:
    """Reads an old artifact; `draft` from `draft_of_old`.

    Raises:
        ExportError: there is an untrusted pickle, or the files don't fit each other or the specs.
        ArtifactError: the model uses operations that a policy may not.
    """
    section = draft.observation
    assert section is not None
    specs, action = observation_spec(section), complete(draft.action)
    prepared, own = Preprocessed(), None
    file = folder / PREPROCESSOR
    if file.is_file():
        own = read_original(file)
        if own is None:
            prepared = preprocessed(read_pickle(file, trust_pickle), specs, trusted)
    network: nn.Module = load_script(folder / MODEL)
    if prepared.transformer is None:
        network = flat_input(network, specs, nn.Identity() if own is None else OriginalFeatures(own, specs))
    return from_network(f"{folder.name}/{MODEL}", network, draft, section, action, prepared)
