"""Which operations a policy's TorchScript graph may hold.

TorchScript is code: `aten::from_file` and its like read and write files. So a graph is held against a list of
operations that only compute, before it runs. Loading itself would run `__setstate__`, which no policy needs.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

from .errors import ArtifactError

_PRIM = """Constant GetAttr CallMethod TupleConstruct TupleUnpack TupleIndex ListConstruct ListUnpack NumToTensor If
Loop RaiseException Uninitialized device dtype layout is_cuda unchecked_cast min max data"""
_ATEN = """linear addmm matmul mm bmm baddbmm einsum add add_ sub sub_ rsub mul mul_ div div_ neg abs pow exp log sqrt
rsqrt square reciprocal sign floor ceil round floor_divide remainder fmod tanh tanh_ sigmoid sigmoid_ relu relu_ relu6
elu elu_ leaky_relu leaky_relu_ gelu silu silu_ mish softplus softmax log_softmax hardtanh hardtanh_ hardsigmoid
hardswish prelu clamp clamp_ clamp_min clamp_max minimum maximum where masked_fill cat concat stack reshape view view_as
flatten unflatten unsqueeze squeeze permute transpose t contiguous to type_as expand expand_as repeat slice select
index_select index gather narrow chunk split split_with_sizes size len dim numel _convolution convolution conv1d conv2d
conv3d batch_norm instance_norm layer_norm group_norm max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_max_pool2d dropout dropout_ upsample_nearest2d upsample_bilinear2d pad constant_pad_nd mean
sum prod std var max min amax amin argmax argmin norm linalg_vector_norm cumsum eq ne lt le gt ge logical_and logical_or
logical_not logical_xor __and__ __or__ __not__ __is__ __isnot__ isnan isinf isfinite nan_to_num zeros_like ones_like
full_like zeros ones full arange tensor scalar_tensor lift_fresh detach clone alias copy_ fill_ zero_ append
__getitem__ __contains__ __range_length __derive_index Bool Int Float IntImplicit FloatImplicit ScalarImplicit item
sin cos tan atan atan2 erf lstm gru lstm_cell gru_cell scaled_dot_product_attention embedding one_hot"""

ALLOWED = frozenset([f"prim::{name}" for name in _PRIM.split()] + [f"aten::{name}" for name in _ATEN.split()])


def check_archive(archive: bytes) -> None:
    """Raises ArtifactError for an archive whose loading would run code, before anything loads it."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as members:
            sources = [members.read(name) for name in members.namelist() if "/code/" in name]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ArtifactError("model.pt: not a TorchScript archive") from error
    if any(b"__setstate__" in source or b"__getstate__" in source for source in sources):
        raise ArtifactError("model.pt: holds code that runs when it is loaded (__setstate__)")


def check_graph(module: Any) -> None:
    """Raises ArtifactError naming the operations of a loaded module's graph that are not allowed."""
    graph = module.forward.inlined_graph
    unknown = sorted(set(_kinds(graph)) - ALLOWED)
    if unknown:
        raise ArtifactError(
            f"model.pt: uses operations that a policy may not: {', '.join(unknown)}; "
            "carla_mlflow/torchscript_ops.py lists those that it may"
        )


def _kinds(block: Any) -> list[str]:
    kinds = []
    for node in block.nodes():
        kinds.append(node.kind())
        for inner in node.blocks():
            kinds += _kinds(inner)
    return kinds
