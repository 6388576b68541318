from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from carla_mlflow import Card, Engine, open_artifact, write_artifact
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.artifact.folder import new_folder
from carla_mlflow.errors import ArtifactError, CardError, IntegrityError, ParityError


def test_what_was_written_is_what_is_opened(example: Path, tmp_path: Path):
    artifact = open_artifact(example)
    again = write_artifact(tmp_path / "again", artifact)
    assert again.digest == artifact.digest
    assert again.files == artifact.files
    assert (tmp_path / "again").stat().st_mode & 0o777 == 0o700


def test_a_card_edited_without_a_pin_is_refused_where_it_says_what_the_policy_is(copy: Path):
    text = (copy / "model_card.yaml").read_text()
    (copy / "model_card.yaml").write_text(text.replace("high: 60.0", "high: 61.0"))
    with pytest.raises(CardError, match="edited after export"):
        open_artifact(copy)


@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "golden.npz", "preprocessor.skops", "model_card.yaml"])
def test_a_missing_file_is_named(copy: Path, name: str):
    (copy / name).unlink()
    with pytest.raises(IntegrityError, match=f"^{name}: is missing"):
        open_artifact(copy)


def test_an_extra_file_is_refused(copy: Path):
    (copy / "extra.py").write_text("raise SystemExit")
    with pytest.raises(IntegrityError, match=r"^extra\.py: not listed"):
        open_artifact(copy)


def test_a_link_a_folder_and_a_fifo_are_refused(copy: Path, tmp_path: Path):
    target = tmp_path / "elsewhere"
    shutil.move(copy / "golden.npz", target)
    (copy / "golden.npz").symlink_to(target)
    with pytest.raises(IntegrityError, match=r"^golden\.npz: is a link"):
        open_artifact(copy)
    (copy / "golden.npz").unlink()
    (copy / "golden.npz").mkdir()
    with pytest.raises(IntegrityError, match=r"^golden\.npz: is a folder"):
        open_artifact(copy)
    (copy / "golden.npz").rmdir()
    os.mkfifo(copy / "golden.npz")
    with pytest.raises(IntegrityError, match=r"^golden\.npz: is not a plain file"):
        open_artifact(copy)


def test_swapped_files_are_refused(copy: Path):
    os.rename(copy / "model.pt", copy / "swap")
    os.rename(copy / "golden.npz", copy / "model.pt")
    os.rename(copy / "swap", copy / "golden.npz")
    with pytest.raises(IntegrityError):
        open_artifact(copy)


def test_another_policy_under_the_same_card_fails_parity(example: Path):
    artifact = open_artifact(example)
    golden = Engine(artifact, "cpu").golden
    golden.raw[5, 0] += 0.01
    forged = {**{n: d for n, d in artifact.files.items() if n in artifact.card.files}, "golden.npz": golden.to_bytes()}
    with pytest.raises(ParityError, match="raw of row 5 is"):
        Engine(seal(artifact.card, forged), "cpu")


def test_a_card_that_does_not_fit_the_graph_is_refused(example: Path):
    artifact = open_artifact(example)
    files = {n: d for n, d in artifact.files.items() if n in artifact.card.files}
    fields = dict(artifact.card.observation)
    fields["sensors"] = msgspec.structs.replace(fields["sensors"], shape=[13])
    card = msgspec.structs.replace(artifact.card, observation=fields)
    with pytest.raises(ArtifactError, match="the graph failed on an example of the card's observations"):
        Engine(seal(card, files), "cpu")


def test_an_existing_folder_is_not_overwritten(example: Path, copy: Path):
    with pytest.raises(ArtifactError, match="already exists"):
        write_artifact(copy, open_artifact(example))


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    def half_write() -> None:
        with new_folder(tmp_path / "new") as beside:
            (beside / "one").write_text("1")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        half_write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said_to_be(tmp_path: Path):
    with pytest.raises(ArtifactError, match="there is no such folder"):
        open_artifact(tmp_path / "nowhere")


def test_a_registered_version_where_a_folder_is_expected_is_told_how_it_is_opened():
    with pytest.raises(ArtifactError, match=r"a registered version is opened by .*'models:/mine@production'"):
        open_artifact("mine@production")


def test_a_card_is_read_alone_from_a_folder_or_a_file(example: Path, tmp_path: Path):
    assert Card.load(example) == Card.load(str(example / "model_card.yaml")) == open_artifact(example).card
    with pytest.raises(CardError, match="No such file"):
        Card.load(tmp_path)
    (tmp_path / "model_card.yaml").write_text("name: a")
    with pytest.raises(CardError, match=r"model_card\.yaml: "):
        Card.load(tmp_path)


def test_an_artifact_and_an_engine_fit_a_line(example: Path):
    artifact = open_artifact(example)
    assert repr(artifact) == f"<Artifact racetrack-policy 0.1.0, torchscript + onnx, {artifact.digest[:19]}…>"
    text = repr(Engine(artifact, "cpu"))
    assert text.startswith("<Engine racetrack-policy 0.1.0, ")
    assert text.endswith(f" on cpu, {artifact.digest[:19]}…>")
