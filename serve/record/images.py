"""Images in files: as fixed-size bytes, since Parquet would spend four bytes a pixel on lists of uint8; or hashed."""

from __future__ import annotations

import hashlib

import pyarrow as pa

from serve.record.schema import HASH, OBSERVATION, Images


def _is_image_field(field: pa.Field) -> bool:
    return (
        field.name.startswith(OBSERVATION)
        and pa.types.is_fixed_size_list(field.type)
        and field.type.value_type == pa.uint8()
    )


def for_file(batch: pa.RecordBatch, images: Images) -> pa.RecordBatch:
    """The columns of a recording as they are written: images as bytes, hashed, or left out."""
    fields, columns = [], []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not _is_image_field(field):
            fields.append(field)
            columns.append(column)
        elif images != "none":
            data = _retyped(column, pa.binary(field.type.list_size))
            hashed = images == "hash"
            columns.append(_hashes(data) if hashed else data)
            fields.append(pa.field(field.name + HASH if hashed else field.name, columns[-1].type))
    return pa.record_batch(columns, schema=pa.schema(fields))


def as_lists(table: pa.Table) -> pa.Table:
    """Columns as they were written → lists of uint8 instead of bytes."""
    for place, field in enumerate(table.schema):
        is_bytes = pa.types.is_fixed_size_binary(field.type) and not field.name.endswith(HASH)
        if is_bytes and field.name.startswith(OBSERVATION):
            kind = pa.list_(pa.uint8(), field.type.byte_width)
            chunks = [_retyped(chunk, kind) for chunk in table.column(place).chunks]
            table = table.set_column(place, pa.field(field.name, kind), pa.chunked_array(chunks, kind))
    return table


def _retyped(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same bytes as fixed-size lists or binaries; nothing is copied."""
    size = kind.byte_width if pa.types.is_fixed_size_binary(kind) else kind.list_size
    valid = column.is_valid() if column.null_count else None
    if pa.types.is_fixed_size_binary(kind):
        data = column.values.buffers()[1].slice((column.values.offset + column.offset * size), len(column) * size)
    else:
        data = column.buffers()[1].slice(column.offset * size, len(column) * size)
    bits = None if valid is None else valid.buffers()[1]
    if pa.types.is_fixed_size_binary(kind):
        return pa.Array.from_buffers(kind, len(column), [bits, data])
    values = pa.Array.from_buffers(pa.uint8(), len(column) * size, [None, data])
    return pa.Array.from_buffers(kind, len(column), [bits], children=[values])


def _hashes(column: pa.Array) -> pa.Array:
    """The sha256 of each image, null where there is none."""
    found = [None if not each.is_valid else hashlib.sha256(each.as_buffer()).digest() for each in column]
    return pa.array(found, pa.binary(32))
