"""What a tamperer could do to an artifact: each is refused, in its own words, and nothing of it runs."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from forging import with_files

from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.artifact.artifact import seal, sha256
from carla_mlflow.contract.backend_names import BACKENDS
from carla_mlflow.contract.card import parse_card
from carla_mlflow.contract.card_sections import FileCard
from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.errors import ArtifactError, CardError, IntegrityError, ParityError

FLIPS = 600


FILES = ["model.pt", "model.onnx", "golden.npz", "preprocessor.skops", "model_card.yaml"]


@pytest.fixture(scope="module")
def artifact(example: Path) -> Artifact:
    return open_artifact(example)


def flipped(data: bytes) -> list[bytes]:
    """FLIPS copies, each with one other bit turned."""
    copies = []
    for bit in np.random.default_rng(0).choice(len(data) * 8, FLIPS, replace=len(data) * 8 < FLIPS):
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        copies.append(bytes(turned))
    return copies


@pytest.mark.parametrize("name", FILES)
def test_of_600_single_bit_flips_in_a_file_none_loads(copy: Path, artifact: Artifact, name: str):
    for data in flipped(artifact.files[name]):
        (copy / name).write_bytes(data)
        with pytest.raises(IntegrityError, match=f"^{name}"):
            open_artifact(copy, artifact.digest)


def test_a_file_cut_short_or_made_longer_is_refused(copy: Path, artifact: Artifact):
    for name in FILES:
        for data in (b"", artifact.files[name][:-1], artifact.files[name] + b"\0"):
            (copy / name).write_bytes(data)
            with pytest.raises(IntegrityError, match=f"^{name}"):
                open_artifact(copy, artifact.digest)
            (copy / name).write_bytes(artifact.files[name])


def test_card_and_files_rewritten_consistently_are_refused_by_the_pin(copy: Path, artifact: Artifact):
    forged = with_files(artifact, model_pt=artifact.files["model.pt"] + b"\0")
    for name, data in forged.files.items():
        (copy / name).write_bytes(data)
    assert open_artifact(copy).digest == forged.digest  # consistent in itself
    with pytest.raises(IntegrityError, match=r"model_card\.yaml: its digest is .* was pinned"):
        open_artifact(copy, artifact.digest)


def test_other_weights_under_the_same_card_fail_parity(artifact: Artifact):
    model = onnx.load_model_from_string(artifact.files["model.onnx"])
    weights = next(i for i in model.graph.initializer if len(i.dims) == 2)
    values = onnx.numpy_helper.to_array(weights).copy()
    values[0] += 0.01
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    with pytest.raises(ParityError, match="the trained policy gave"):
        Engine(with_files(artifact, model_onnx=model.SerializeToString()), "cpu", "onnx")


@pytest.mark.parametrize("name", ["evil.pkl", "a\0b.pt", "x\ny.txt", "policy.pth", ".hidden.txt"])
def test_a_listed_file_of_a_strange_kind_or_name_is_refused(artifact: Artifact, name: str):
    listed = {**artifact.card.files, name: FileCard(sha256(b""))}
    with pytest.raises(CardError, match="not a plain file name beside the card"):
        seal(msgspec.structs.replace(artifact.card, files=listed), {n: b"" for n in listed})


def test_two_graphs_for_one_backend_are_refused(artifact: Artifact):
    listed = {**artifact.card.files, "other.pt": FileCard(sha256(b""), "torchscript")}
    with pytest.raises(CardError, match="two graphs for one backend"):
        seal(msgspec.structs.replace(artifact.card, files=listed), {n: b"" for n in listed})


@pytest.mark.parametrize(
    "text",
    ["a: &a [x, x]\nb: [*a, *a]\n", "[" * 100, "x: " + "y" * (1 << 20)],
    ids=["alias", "deep", "large"],
)
def test_a_card_that_would_grow_is_refused_before_it_is_built(copy: Path, text: str):
    (copy / "model_card.yaml").write_text(text)
    with pytest.raises(CardError, match=r"model_card\.yaml: (holds an alias|larger than)"):
        open_artifact(copy)


def test_a_card_of_sixty_thousand_keys_is_read_at_once(artifact: Artifact):
    text = artifact.files["model_card.yaml"].decode().split("metrics:")[0]
    keys = "".join(f"  k{i}: 1\n" for i in range(60_000))
    with pytest.raises(CardError, match="the key 'k7' is there twice"):
        parse_card(f"{text}metrics:\n{keys}  k7: 1\n".encode())


@pytest.mark.parametrize("shape", [[10**11], [10**30], [1] * 70, [3000, 3000, 3000]])
def test_a_card_alone_can_not_claim_more_memory_than_there_is(artifact: Artifact, shape: list[int]):
    observation = {**artifact.card.observation, "sensors": FieldCard("float32", shape)}
    with pytest.raises(CardError, match="is too large"):
        seal(
            msgspec.structs.replace(artifact.card, observation=observation),
            {name: artifact.files[name] for name in artifact.card.files},
        )


def test_a_file_too_large_to_be_a_card_is_not_read(copy: Path):
    os.truncate(copy / "model_card.yaml", 8 << 40)
    with pytest.raises(CardError, match=r"model_card\.yaml: larger than 1 MiB"):
        open_artifact(copy)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 3}, "format 3 is newer than this reader's 2"),
        ({"files": {"../up": {"sha256": sha256(b"")}}}, "not a plain file name"),
        ({"files": {"/etc/passwd": {"sha256": sha256(b"")}}}, "not a plain file name"),
        ({"surprise": 1}, "unknown field `surprise`"),
    ],
)
def test_a_card_that_reaches_out_or_comes_from_the_future_is_refused(copy: Path, artifact, change, complaint):
    document = artifact.card.to_dict() | change
    (copy / "model_card.yaml").write_bytes(msgspec.yaml.encode(document))
    with pytest.raises(CardError, match=complaint):
        open_artifact(copy)


def test_a_key_that_is_there_twice_is_refused(copy: Path):
    card = copy / "model_card.yaml"
    card.write_text(card.read_text() + "version: 9.9.9\n")
    with pytest.raises(CardError, match="the key 'version' is there twice"):
        open_artifact(copy)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_card_whose_specs_do_not_fit_the_graph_is_refused(artifact: Artifact, backend: str):
    fields = dict(artifact.card.observation)
    fields["sensors"] = msgspec.structs.replace(fields["sensors"], shape=[13])
    card = msgspec.structs.replace(artifact.card, observation=fields)
    engine = Engine(artifact, "cpu", backend)
    wider = np.concatenate([engine.golden.observations["sensors"]] * 2, axis=1)[:, :13]
    golden = engine.golden
    golden.observations["sensors"] = wider
    files = {name: artifact.files[name] for name in card.files} | {"golden.npz": golden.to_bytes()}
    with pytest.raises(ArtifactError, match="the graph failed on an example of the card's observations"):
        Engine(seal(card, files), "cpu", backend)
