"""carla-registry verify: what can be said of an artifact, from its bytes to its parity, and what makes it say no."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import scipy.sparse
import skops.io
from forging import Canary, with_files, write
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests_support import registry_here, run_command

from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.artifact.artifact import seal, sha256
from carla_mlflow.artifact.golden import Golden, read_golden
from carla_mlflow.errors import ArtifactError, IntegrityError, ParityError
from carla_mlflow.preprocessing.skops_file import load_preprocessor
from registry.checks.verify import verify


@pytest.fixture(scope="module")
def artifact(example: Path) -> Artifact:
    return open_artifact(example)


def test_a_transformer_that_reads_files_is_not_trusted():
    reader = HashingVectorizer(input="filename", n_features=4)
    with pytest.raises(ArtifactError, match=r"not trusted: .*HashingVectorizer"):
        load_preprocessor(skops.io.dumps(make_pipeline(reader, StandardScaler(with_mean=False))))


def archive_with(data: bytes, name: str, content: bytes) -> bytes:
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as target:
        target.writestr(name, content)
    return buffer.getvalue()


def test_an_array_that_promises_more_than_it_holds_is_not_made_room_for(artifact: Artifact):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 45,)})
    forged = archive_with(artifact.files["golden.npz"], "bomb.npy", header.getvalue())
    with pytest.raises(ArtifactError, match=r"golden\.npz: .*bomb\.npy: its header declares 35,184,372,088,832 bytes"):
        Engine(with_files(artifact, golden_npz=forged), "cpu")


def test_a_sparse_matrix_in_a_preprocessor_is_refused_whatever_type_it_claims():
    data = skops.io.dumps(StandardScaler().fit(np.zeros((2, 3))))
    matrix = io.BytesIO()
    scipy.sparse.save_npz(matrix, scipy.sparse.csr_matrix(np.eye(3)))
    node = {"__class__": "dtype", "__module__": "numpy", "__loader__": "SparseMatrixNode", "type": "scipy", "__id__": 9}
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        schema = json.loads(source.read("schema.json"))
        schema["content"]["content"]["mean_"] = {**node, "file": "forged.npz"}
        files = {name: source.read(name) for name in source.namelist() if name != "schema.json"}
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as target:
        for name, content in {**files, "forged.npz": matrix.getvalue(), "schema.json": json.dumps(schema)}.items():
            target.writestr(name, content)
    with pytest.raises(ArtifactError, match="a sparse matrix"):
        load_preprocessor(forged.getvalue())


NOT_SKOPS = [lambda canary: pickle.dumps(Canary(canary)), lambda canary: b"PK\x03\x04" + b"\0" * 99]


@pytest.mark.parametrize("make", NOT_SKOPS)
def test_verify_refuses_a_preprocessor_that_is_no_skops_file(artifact: Artifact, tmp_path: Path, make: Callable):
    canary = tmp_path / "canary"
    folder = write(with_files(artifact, preprocessor_skops=make(canary)), tmp_path / "forged")
    with pytest.raises(ArtifactError, match=r"preprocessor\.skops: not a skops file"):
        list(verify(folder, None))
    assert not canary.exists()


class Homemade(StandardScaler):
    pass


def test_verify_refuses_untrusted_types_in_the_preprocessor(artifact: Artifact, tmp_path: Path):
    data = skops.io.dumps(Homemade().fit(np.zeros((2, 14))))
    folder = write(with_files(artifact, preprocessor_skops=data), tmp_path / "forged")
    done = registry_here("verify", str(folder))
    assert done.code == 1
    assert "Homemade" in done.err
    assert "--trust-types" in done.err


def repeated(golden: Golden) -> Golden:
    first = {name: np.repeat(array[:1], len(array), 0) for name, array in golden.observations.items()}
    return dataclasses.replace(golden, observations=first)


def test_golden_observations_have_to_differ(artifact: Artifact):
    forged = repeated(read_golden(artifact.files["golden.npz"], artifact.card)).to_bytes()
    with pytest.raises(ArtifactError, match="only 1 of its 64 observations differ"):
        Engine(with_files(artifact, golden_npz=forged), "cpu")


def test_verify_recomputes_the_weights(artifact: Artifact, tmp_path: Path):
    card = msgspec.structs.replace(artifact.card, weights=sha256(b"others"))
    folder = write(seal(card, {name: artifact.files[name] for name in card.files}), tmp_path / "forged")
    with pytest.raises(IntegrityError, match="weights: the card says"):
        list(verify(folder, None))


@pytest.mark.parametrize("change", ["other features", "no features", "another preprocessor"])
def test_verify_holds_the_preprocessor_against_what_training_saw(artifact: Artifact, tmp_path: Path, change: str):
    golden = read_golden(artifact.files["golden.npz"], artifact.card)
    assert golden.features is not None
    features = None if change == "no features" else golden.features + 0.01
    changed = {"golden_npz": dataclasses.replace(golden, features=features).to_bytes()}
    if change == "another preprocessor":
        changed = {"preprocessor_skops": skops.io.dumps(StandardScaler().fit(golden.features))}
    with pytest.raises(ParityError, match="makes other features of the golden observations"):
        list(verify(write(with_files(artifact, **changed), tmp_path / "forged"), None))


def test_verify_says_what_holds_and_what_does_not(example: Path, copy: Path, artifact: Artifact):
    done = run_command("carla-registry", "verify", str(example), "--digest", artifact.digest)
    assert done.code == 0, done.err
    for line in ("as pinned", "torchscript", "onnx", "StandardScaler, in the graph", "weights", "every check passed"):
        assert line in done.out
    assert any("unpinned" in line for line, _ in zip(verify(example, None), range(2), strict=False))
    done = registry_here("verify", str(example), "--digest", sha256(b"another"))
    assert (done.code, "was pinned" in done.err) == (1, True)
    (copy / "model.onnx").write_bytes(artifact.files["model.onnx"] + b"\0")
    done = registry_here("verify", str(copy))
    assert (done.code, "model.onnx: its bytes differ" in done.err) == (1, True)
    assert registry_here("verify", "/nowhere").code == 1


def test_verify_checks_parity_on_the_backend_that_is_named(example: Path):
    found = [line for line in verify(example, None, backend="openvino") if "acts on" in line]
    assert [line.split()[0] for line in found] == ["openvino"]
