"""MLflow fails when two processes write the same tag or alias at the same moment: each write is tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from registry_policies import NAME, registered

from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own
GATE = "gate.driving.margin"


def alias(store: Store) -> None:
    store.set_alias(store.find(NAME, "0.1.0"), "canary")


def mark(store: Store) -> None:
    store.begin_writing(NAME, 1, "writing.1")


WRITES: dict[str, tuple[Callable[[Store], object], Callable[[Store], object]]] = {
    "set_registered_model_tag": (lambda _: None, lambda store: store.set_model_tags(NAME, {GATE: "0.1"})),
    "delete_registered_model_tag": (
        lambda store: store.set_model_tags(NAME, {GATE: "0.1"}),
        lambda store: store.set_model_tags(NAME, {GATE: ""}),
    ),
    "set_registered_model_alias": (lambda _: None, alias),
    "delete_registered_model_alias": (alias, lambda store: store.delete_alias(NAME, "canary")),
    "set_model_version_tag": (lambda _: None, mark),
    "delete_model_version_tag": (mark, lambda store: store.end_writing(NAME, 1, "writing.1")),
}
"""MLflow's call → what makes it possible, and a write of ours that makes it."""


@pytest.mark.parametrize("call", WRITES)
def test_a_write_that_mlflow_refuses_once_is_made(
    mlflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    store = Store()
    registered(store, tmp_path, "0.1.0")
    before, write = WRITES[call]
    before(store)
    real, calls = getattr(store._client, call), []

    def refuse_once(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            raise MlflowException("UNIQUE constraint failed")
        return real(*arguments)

    monkeypatch.setattr(store._client, call, refuse_once)
    write(store)
    assert len(calls) == 2
    tags, held = store.model_tags(NAME), store.holders(NAME)
    marks = store.journal(NAME)[0].writers
    assert (tags.get(GATE), held.get("canary"), set(marks)) == {
        "set_registered_model_tag": ("0.1", None, set()),
        "set_registered_model_alias": (None, "0.1.0", set()),
        "set_model_version_tag": (None, None, {"writing.1"}),
    }.get(call, (None, None, set()))
