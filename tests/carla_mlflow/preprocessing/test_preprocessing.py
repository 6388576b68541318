from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)

from carla_mlflow.errors import ArtifactError, ExportError
from carla_mlflow.preprocessing.beside_graph import OutOfGraph
from carla_mlflow.preprocessing.skops_file import TRUSTED_TYPES, dump_preprocessor, load_preprocessor

RNG = np.random.default_rng(0)
FITTED_ON = RNG.normal([5, 0, 100, 7], [3, 1e-3, 50, 1], (200, 4))
ROWS = FITTED_ON[:20].astype(np.float32)
NAMED = pd.DataFrame(FITTED_ON, columns=list("abcd"))


def test_importing_it_loads_nothing_that_a_server_of_another_backend_lacks():
    unwanted = ["torch", "sklearn", "skops", "scipy", "pandas"]
    statement = "import carla_mlflow.preprocessing.skops_file"
    code = f"{statement}, sys; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "transformer",
    [
        StandardScaler(),
        PolynomialFeatures(),
        PCA(2),
        QuantileTransformer(n_quantiles=20),
        KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"),
        SimpleImputer(),
        OneHotEncoder(handle_unknown="ignore"),
        FunctionTransformer(np.arctan),
        make_pipeline(SimpleImputer(), make_union(StandardScaler(), PCA(1))),
        ColumnTransformer([("a", StandardScaler(), [0, 2])], remainder="passthrough"),
    ],
    ids=str,
)
def test_a_transformer_of_scikit_learn_is_read_back_without_anybodys_trust(transformer: Any):
    transformer.fit(FITTED_ON)
    loaded = load_preprocessor(dump_preprocessor(transformer))
    assert type(loaded) is type(transformer)
    np.testing.assert_array_equal(OutOfGraph(loaded)(ROWS), OutOfGraph(transformer)(ROWS))


def test_columns_chosen_by_a_selector_are_read_back():
    transformer = ColumnTransformer([("a", StandardScaler(), make_column_selector("a|c"))]).fit(NAMED)
    loaded = load_preprocessor(dump_preprocessor(transformer))
    np.testing.assert_array_equal(OutOfGraph(loaded)(ROWS), OutOfGraph(transformer)(ROWS))


def test_only_types_are_trusted_and_no_function():
    for name in TRUSTED_TYPES:
        module, _, kind = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), kind), type)


def test_the_same_transformer_gives_the_same_bytes():
    transformer = make_pipeline(StandardScaler(), SimpleImputer(), ColumnTransformer([("a", PCA(1), [0, 1])]))
    data = dump_preprocessor(transformer.fit(FITTED_ON))
    assert dump_preprocessor(transformer) == data
    assert dump_preprocessor(load_preprocessor(data)) == data


def test_another_process_writes_the_same_bytes():
    code = """
import hashlib, numpy, sys
from carla_mlflow.preprocessing.skops_file import dump_preprocessor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
fitted = make_pipeline(StandardScaler(), MinMaxScaler()).fit(numpy.arange(12.0).reshape(4, 3))
print(hashlib.sha256(dump_preprocessor(fitted)).hexdigest())
"""
    fitted = make_pipeline(StandardScaler(), MinMaxScaler()).fit(np.arange(12.0).reshape(4, 3))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(dump_preprocessor(fitted)).hexdigest()


class Settings(BaseEstimator, TransformerMixin):
    """Keeps its state in a dict with the names that skops uses itself."""

    def fit(self, rows: Any, _: Any = None) -> Settings:
        self.state_ = {"file": "a.npy", "__id__": 7, "bytes": b"\x00\x01", "array": np.arange(3.0)}
        return self

    def transform(self, rows: Any) -> Any:
        return rows


def test_a_transformers_own_keys_are_not_mistaken_for_those_of_the_file():
    loaded = load_preprocessor(dump_preprocessor(Settings().fit(ROWS)), [f"{__name__}.Settings"])
    np.testing.assert_array_equal(loaded.state_.pop("array"), np.arange(3.0))
    assert loaded.state_ == {"file": "a.npy", "__id__": 7, "bytes": b"\x00\x01"}


class Unwritable(StandardScaler):
    def __getstate__(self) -> Any:
        raise RuntimeError("no state")


def test_what_skops_cant_write_is_refused():
    with pytest.raises(ExportError, match=r"Unwritable can't be written by skops: no state"):
        dump_preprocessor(Unwritable().fit(FITTED_ON))


@pytest.mark.parametrize(
    "transformer",
    [FunctionTransformer(lambda rows: rows), type("Mine", (StandardScaler,), {"__module__": "__main__"})()],
)
def test_what_nobody_could_read_back_is_refused_when_it_is_written(transformer: Any):
    with pytest.raises(ExportError, match="no module that can be imported"):
        dump_preprocessor(transformer.fit(FITTED_ON))


class Homemade(StandardScaler):
    pass


@pytest.mark.parametrize(
    ("transformer", "untrusted"),
    [
        (Homemade(), f"{__name__}.Homemade"),
        (FunctionTransformer(np.nan_to_num), "numpy.nan_to_num"),
        (SplineTransformer(), "scipy.interpolate._bsplines.BSpline"),
        (make_pipeline(StandardScaler(), Homemade()), f"{__name__}.Homemade"),
    ],
)
def test_a_type_outside_the_trust_list_is_named_with_what_to_do(transformer: Any, untrusted: str):
    data = dump_preprocessor(transformer.fit(FITTED_ON))
    with pytest.raises(ArtifactError, match="not trusted") as caught:
        load_preprocessor(data)
    assert untrusted in str(caught.value)
    assert "--trust-types / POLICY_TRUST_TYPES" in str(caught.value)


def test_the_operator_may_trust_a_type_by_its_exact_name_only():
    data = dump_preprocessor(Homemade().fit(FITTED_ON))
    for near in (f"{__name__}.*", "Homemade", f"{__name__}.homemade", __name__, "*"):
        with pytest.raises(ArtifactError, match="not trusted"):
            load_preprocessor(data, [near])
    assert type(load_preprocessor(data, [f"{__name__}.Homemade"])).__name__ == "Homemade"


@pytest.fixture
def clipper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bytes]:
    """Writes the operator's own module, and gives a preprocessor of a class in it; then that module is forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    source = tmp_path / "features_of_mine.py"

    def written(becomes: str | None) -> bytes:
        source.write_text("from sklearn.preprocessing import StandardScaler\nclass Clipper(StandardScaler): pass\n")
        importlib.invalidate_caches()
        module = importlib.import_module("features_of_mine")
        data = dump_preprocessor(module.Clipper().fit(FITTED_ON))
        monkeypatch.delitem(sys.modules, "features_of_mine")
        source.unlink()
        if becomes is not None:
            (tmp_path / "features_of_mine.py").write_text(becomes)
        for cached in tmp_path.glob("__pycache__/*"):
            cached.unlink()
        importlib.invalidate_caches()
        return data

    return written


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (None, "can't be imported here: No module named 'features_of_mine'; install the package"),
        ("Clip = 1", "can't be imported here: module 'features_of_mine' has no attribute 'Clipper'"),
        ("import nothing_such", "can't be imported here: No module named 'nothing_such'"),
        ("1 / 0", "can't be restored here \\(ZeroDivisionError\\)"),
    ],
)
def test_a_trusted_type_that_is_not_installed_is_said_so(clipper: Any, module: str | None, problem: str):
    data = clipper(module)
    with pytest.raises(ArtifactError, match=problem):
        load_preprocessor(data, ["features_of_mine.Clipper"])


def test_the_module_of_a_type_that_is_not_trusted_is_not_imported(clipper: Any):
    data = clipper("print('imported')\nraise SystemExit")
    with pytest.raises(ArtifactError, match=r"features_of_mine\.Clipper; the operator may"):
        load_preprocessor(data)
    assert "features_of_mine" not in sys.modules


def test_what_skops_itself_wrote_is_read_too():
    scaler = StandardScaler().fit(FITTED_ON)
    np.testing.assert_array_equal(load_preprocessor(skops.io.dumps(scaler)).mean_, scaler.mean_)
