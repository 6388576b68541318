"""Which operations a policy's TorchScript graph may hold.

TorchScript is code: operations such as `aten::from_file` read and write files. So before a graph runs, it is checked
against a list of operations that only compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ArtifactError

_PRIM = """Constant GetAttr TupleConstruct TupleUnpack TupleIndex ListConstruct DictConstruct ListUnpack NumToTensor
If Loop RaiseException Uninitialized device dtype layout is_cuda unchecked_cast min max data type is_nested
requires_grad"""
_ATEN = """linear addmm matmul mm bmm baddbmm einsum add add_ sub sub_ rsub mul mul_ div div_ neg abs pow exp log
sqrt rsqrt square reciprocal sign floor ceil round floor_divide remainder fmod tanh tanh_ sigmoid sigmoid_ relu
relu_ relu6 elu elu_ leaky_relu leaky_relu_ gelu glu selu selu_ celu silu silu_ mish softplus softmax log_softmax
log_sigmoid hardshrink softshrink threshold hardtanh hardtanh_ hardsigmoid hardswish prelu clamp clamp_ clamp_min
clamp_max minimum maximum where masked_fill cat concat stack reshape view view_as flatten unflatten unsqueeze
squeeze permute transpose t contiguous to type_as expand expand_as repeat slice select index_select index gather
narrow chunk split split_with_sizes unbind size len dim numel _convolution convolution conv1d conv2d conv3d
conv_transpose1d conv_transpose2d conv_transpose3d pixel_shuffle pixel_unshuffle batch_norm instance_norm layer_norm
group_norm max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d
dropout dropout_ upsample_nearest2d upsample_nearest3d upsample_trilinear3d upsample_bilinear2d upsample_bicubic2d
upsample_linear1d upsample_nearest1d pad constant_pad_nd mean sum prod std var max min amax amin argmax argmin norm
_weight_norm vdot mv dot linalg_vector_norm cumsum eq ne lt le gt ge logical_and logical_or logical_not logical_xor
__and__ __or__ __not__ __is__ __isnot__ isnan isinf isfinite nan_to_num zeros_like ones_like full_like zeros
_set_item is_floating_point warn masked_fill_ ones full arange tensor scalar_tensor lift_fresh detach clone alias
copy_ fill_ zero_ append __getitem__ __contains__ __range_length __derive_index Bool Int Float IntImplicit
FloatImplicit ScalarImplicit item sin cos tan atan atan2 erf lstm gru lstm_cell gru_cell
scaled_dot_product_attention embedding one_hot format list all any floordiv is_grad_enabled is_autocast_enabled
_native_multi_head_attention _transformer_encoder_layer_fwd"""

ALLOWED = frozenset([f"prim::{name}" for name in _PRIM.split()] + [f"aten::{name}" for name in _ATEN.split()])


def check_operations(module: Any) -> None:
    """Raises ArtifactError naming the operations of a loaded module's graph that are not allowed."""
    unknown = sorted({node.kind() for node in all_nodes(module.forward.inlined_graph)} - ALLOWED)
    if unknown:
        raise ArtifactError(
            f"model.pt: uses operations that a policy may not use: {', '.join(unknown)}; "
            "carla_mlflow/backends/torchscript_ops.py lists those that it may use"
        )


def all_nodes(block: Any) -> Iterator[Any]:
    """The nodes of a graph or a block, and of the blocks inside them."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from all_nodes(inner)
