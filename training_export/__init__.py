"""Makes policies: trains them, evaluates them, and exports them as artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carla_mlflow.errors import DrivingError, ExportError
from carla_mlflow.lazy_names import lazy_names

if TYPE_CHECKING:
    from training_export.export.export import Export, export_policy, with_metrics
    from training_export.sources.draft import CardDraft
    from training_export.sources.from_module import from_module, from_network
    from training_export.sources.preprocessed import Preprocessed
    from training_export.sources.trained import TrainedPolicy

_HOMES = {
    "CardDraft": "sources.draft",
    "Export": "export.export",
    "Preprocessed": "sources.preprocessed",
    "TrainedPolicy": "sources.trained",
    "export_policy": "export.export",
    "from_module": "sources.from_module",
    "from_network": "sources.from_module",
    "with_metrics": "export.export",
}

__all__ = [
    "CardDraft",
    "DrivingError",
    "Export",
    "ExportError",
    "Preprocessed",
    "TrainedPolicy",
    "export_policy",
    "from_module",
    "from_network",
    "with_metrics",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
