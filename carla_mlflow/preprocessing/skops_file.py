"""preprocessor.skops: a fitted transformer, checked, written and read back.

`translation.py` turns a transformer into a part of the graph. The fitted transformer itself stays in the artifact: as
provenance, as the reference for parity, and, where it has no translation, to be run (`beside_graph.py`).
Importing this module loads neither torch nor scikit-learn: a server without them imports it too.
"""

from __future__ import annotations

import io
import json
import types
import zipfile
from collections.abc import Sequence
from typing import Any

from ..artifact.npz import check_arrays
from ..errors import ArtifactError, ExportError
from .fitted import check_fitted as check_fitted
from .fitted import type_name

TRUSTED_TYPES: tuple[str, ...] = (
    "numpy.dtype",  # SimpleImputer and KBinsDiscretizer keep one; it only names a number format
    "sklearn.compose._column_transformer.make_column_selector",  # a ColumnTransformer keeps it; only `fit` calls it
)
"""Types beyond skops' own defaults that a preprocessor may hold. This code decides on them, never the artifact.

No functions are among them, nor types that pass unchecked sizes or indices from the file to compiled code (decision
trees, KD-trees, SplineTransformer's BSpline). skops trusts scikit-learn's estimators and numpy's and scipy's ufuncs.
"""

HOMES = (
    *("builtins", "collections", "numpy", "sklearn.base", "sklearn.compose", "sklearn.decomposition"),
    *("sklearn.impute", "sklearn.pipeline", "sklearn.preprocessing"),
)
"""Modules whose types a preprocessor may hold. skops trusts all of scikit-learn and scipy, but some of it reads files
that an observation names (HashingVectorizer) or crashes on forged numbers (SVMs, sparse matrices)."""
_MAX_BYTES, _MAX_SCHEMA_BYTES = 256 * 2**20, 8 * 2**20  # unpacked, against zip bombs


def load_preprocessor(data: bytes, trusted: Sequence[str] = ()) -> Any:
    """Reads preprocessor.skops without unpickling anything.

    Args:
        data: the file.
        trusted: full names of types that the operator trusts beyond TRUSTED_TYPES, such as
            `my_pkg.features.Clipper`; exact names, no patterns. Only their modules are imported.

    Returns:
        An object with a `transform` method, which has not been called.

    Raises:
        ArtifactError: not a skops file, one that holds a type outside the trust list, or one whose trusted type
            can't be imported here.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    allowed = [*TRUSTED_TYPES, *trusted]
    try:
        _check_sizes(data)
        _check_homes(data, allowed)
        transformer = skops.io.loads(data, trusted=allowed)
        transforms = callable(getattr(transformer, "transform", None))
    except ArtifactError:
        raise
    except UntrustedTypesFoundException as error:
        unknown = sorted(set(skops.io.get_untrusted_types(data=data)) - set(allowed))
        raise ArtifactError(
            f"preprocessor.skops: holds types that are not trusted: {', '.join(unknown)}; "
            "the operator may trust them with --trust-types / POLICY_TRUST_TYPES"
        ) from error
    except Exception as error:  # a boundary: hostile bytes make zipfile, json, skops and numpy raise anything
        raise ArtifactError(f"preprocessor.skops: {_why_unreadable(error)}") from error
    if not transforms:
        raise ArtifactError(f"preprocessor.skops: holds a {type_name(transformer)}, which has no transform method")
    return transformer


def _check_sizes(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        try:
            check_arrays(members, _MAX_BYTES)
        except ValueError as error:
            raise ArtifactError(f"preprocessor.skops: {error}") from error
        if members.getinfo("schema.json").file_size > _MAX_SCHEMA_BYTES:
            raise ArtifactError(f"preprocessor.skops: its schema is larger than {_MAX_SCHEMA_BYTES >> 20} MiB")


def _check_homes(data: bytes, allowed: Sequence[str]) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        waiting, strange = [json.loads(members.read("schema.json"))], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            module, name = node.get("__module__"), f"{node.get('__module__')}.{node.get('__class__')}"
            at_home = any(module == home or str(module).startswith(f"{home}.") for home in HOMES)
            if node.get("__loader__") == "SparseMatrixNode":
                strange.add("a sparse matrix")  # whatever type it claims: its indices reach compiled code unchecked
            if isinstance(module, str) and not at_home and name not in allowed:
                strange.add(name)
        waiting.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    if strange:
        raise ArtifactError(
            f"preprocessor.skops: holds types that are not trusted: {', '.join(sorted(strange))}; "
            "the operator may trust them with --trust-types / POLICY_TRUST_TYPES"
        )


def _why_unreadable(error: Exception) -> str:
    of_a_module = isinstance(error, AttributeError) and isinstance(error.obj, types.ModuleType)
    if isinstance(error, ImportError) or of_a_module:
        return f"a type that it holds can't be imported here: {error}; install the package that defines it"
    return f"not a skops file, or one that can't be restored here ({type(error).__name__})"


def dump_preprocessor(transformer: Any) -> bytes:
    """A fitted transformer as preprocessor.skops.

    The same object gives the same bytes in any process: skops' memory addresses and random file names become numbers,
    and dates are dropped. Only sets of strings are still written in Python's arbitrary order.

    Raises:
        ExportError: skops can't write it, or nobody could read it back (a lambda, a class of the running script).
    """
    import skops.io

    try:
        data = skops.io.dumps(transformer)
        unreadable = [t for t in skops.io.get_untrusted_types(data=data) if t.startswith("__main__.") or "<" in t]
    except Exception as error:  # whatever the __reduce__ and __getstate__ of an author's own class raise
        raise ExportError(f"the preprocessor {type_name(transformer)} can't be written by skops: {error}") from error
    if unreadable:
        raise ExportError(
            f"the preprocessor {type_name(transformer)} can't be read back elsewhere: {', '.join(sorted(unreadable))} "
            "has no module that can be imported; move it into one"
        )
    return _canonical(data)


def _canonical(data: bytes) -> bytes:
    files: dict[str, str] = {}
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as renamed:
        schema = _renumbered(json.loads(source.read("schema.json")), {}, files)
        for old, new in files.items():
            renamed.writestr(zipfile.ZipInfo(new), source.read(old))
        renamed.writestr(zipfile.ZipInfo("schema.json"), json.dumps(schema, indent=1))
    return target.getvalue()


def _renumbered(node: Any, ids: dict[int, int], files: dict[str, str]) -> Any:
    """A skops schema with its ids and files numbered in the order in which it names them."""
    if isinstance(node, list):
        return [_renumbered(item, ids, files) for item in node]
    if not isinstance(node, dict):
        return node
    renumbered: dict[str, Any] = {}
    for key, value in node.items():
        # A transformer's own dict may have these keys too, but its values are nodes, never numbers or strings.
        if key == "__id__" and isinstance(value, int):
            if node.get("__loader__") == "JsonNode":
                continue  # a plain value: Python shares equal ones arbitrarily
            renumbered[key] = ids.setdefault(value, len(ids) + 1)
        elif key == "file" and isinstance(value, str):
            renumbered[key] = files.setdefault(value, f"{len(files)}{value[value.rindex('.') :]}")
        else:
            renumbered[key] = _renumbered(value, ids, files)
    return renumbered
