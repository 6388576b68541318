from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from carla_mlflow.errors import ArtifactError
from carla_mlflow.preprocessing.skops_file import dump_preprocessor, load_preprocessor

RNG = np.random.default_rng(0)
FITTED_ON = RNG.normal([5, 0, 100, 7], [3, 1e-3, 50, 1], (200, 4))


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def archive(members: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return buffer.getvalue()


def schema(node: Any, **files: bytes) -> bytes:
    return archive({"schema.json": json.dumps({**node, "protocol": 2, "_skops_version": "0.16"}), **files})


CALLED = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
ITSELF = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "__id__": 1}
OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([Evil()], dtype=object), allow_pickle=True)
ARRAY = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy", "file": "a.npy"}
HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"
HUGE = b"\x93NUMPY\x01\x00\x76\x00" + HEADER.ljust(118)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (pickle.dumps(Evil()), "not a skops file"),
        (b"", "not a skops file"),
        (dump_preprocessor(StandardScaler())[:-30], "not a skops file"),
        (archive({"data.pkl": pickle.dumps(Evil())}), "not a skops file"),
        (archive({"schema.json": "[" * 100_000}), "not a skops file"),
        (archive({"schema.json": "[]"}), "not a skops file"),
        (archive({"schema.json": b"\xff\xfe"}), "not a skops file"),
        (schema({**ITSELF, "content": [ITSELF]}), "not a skops file"),
        (schema({**ITSELF, "content": []}), "holds a list, which has no transform method"),
        (schema({**ITSELF, "content": [CALLED]}), "not trusted: os.system"),
        (schema({**ITSELF, "content": [ARRAY]}, **{"a.npy": OBJECTS.getvalue()}), "holds Python objects"),
        (schema({**ITSELF, "content": [ARRAY]}, **{"a.npy": HUGE}), "declares .* bytes of numbers"),
        (schema({**ITSELF, "__loader__": "NoSuchNode"}), "not a skops file"),
        (schema({"__class__": "dtype", "__module__": "numpy", "__loader__": "ObjectNode"}), "not a skops file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes hold the time at which they were made
)
def test_what_is_no_preprocessor_is_refused_and_runs_nothing(
    data: bytes, problem: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(ArtifactError, match=problem):
        load_preprocessor(data)
    assert capsys.readouterr().out == ""


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_is_unpacked():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target, target.open("schema.json", "w") as member:
        for _ in range(257):
            member.write(bytes(2**20))
    assert len(buffer.getvalue()) < 2**20
    with pytest.raises(ArtifactError, match="MB when unpacked; at most 268 MB are allowed"):
        load_preprocessor(buffer.getvalue())


@pytest.fixture(scope="module")
def written() -> bytes:
    parts = [("a", StandardScaler(), [0]), ("b", make_pipeline(SimpleImputer(), PCA(1)), slice(1, 3))]
    return dump_preprocessor(ColumnTransformer(parts, remainder="passthrough").fit(FITTED_ON))


def accepted_or_refused(data: bytes) -> bool:
    try:
        load_preprocessor(data)
    except ArtifactError:
        return False
    return True


@pytest.mark.filterwarnings("ignore")  # as in a server: the warning is not the refusal
def test_damaged_bytes_are_refused_and_never_crash(written: bytes):
    for place in np.linspace(0, len(written) - 1, 200).astype(int):
        flipped = bytearray(written)
        flipped[place] ^= 1 << (place % 8)
        accepted_or_refused(bytes(flipped))
        assert not accepted_or_refused(written[:place])


SURPRISES: list[Any] = [None, 0, -1, 10**30, 1.5, "", "x", "__main__", [], [[]], {}, True, "os", "system", "ObjectNode"]


def holders(node: Any) -> list[tuple[Any, Any]]:
    """Every place in a schema that a value can be put."""
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [(node, key) for key, _ in items] + [place for _, value in items for place in holders(value)]


@pytest.mark.filterwarnings("ignore")
def test_a_schema_with_anything_in_any_place_is_refused_or_read_and_never_crashes(written: bytes):
    rng = random.Random(0)
    with zipfile.ZipFile(io.BytesIO(written)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    outcomes = set()
    for _ in range(300):
        state = json.loads(members["schema.json"])
        for _ in range(rng.randint(1, 3)):
            holder, key = rng.choice(holders(state))
            others, other = rng.choice(holders(state))
            holder[key] = rng.choice([*SURPRISES, json.loads(json.dumps(others[other]))])
        outcomes.add(accepted_or_refused(archive({**members, "schema.json": json.dumps(state)})))
    assert outcomes == {True, False}
