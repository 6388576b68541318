"""How columns stand in files, where that is not as readers get them.

Images are fixed-size bytes, since Parquet would spend four bytes a pixel on lists of uint8; or hashed. Fixed-size lists
are lists of any size, since pyarrow can't read such ones with nulls from Parquet.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from serve.record.schema import HASH, OBSERVATION, Images


def _is_image(field: pa.Field) -> bool:
    kind = field.type
    is_bytes: bool = pa.types.is_fixed_size_list(kind) and kind.value_type == pa.uint8()
    return is_bytes and str(field.name).startswith(OBSERVATION)


def with_images(batch: pa.RecordBatch, images: Images) -> pa.RecordBatch:
    """The columns of a block, with images as bytes, hashed, or left out."""
    if not any(map(_is_image, batch.schema)):
        return batch
    columns = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not _is_image(field):
            columns[field.name] = column
        elif images == "keep":
            columns[field.name] = _as_bytes(column)
        elif images == "hash":
            columns[field.name + HASH] = _hashes(_as_bytes(column))
    return pa.record_batch(list(columns.values()), names=list(columns))


def as_written(table: pa.Table) -> pa.Table:
    """Columns as they are written: lists instead of fixed-size lists. `table` has one chunk."""
    for place, field in enumerate(table.schema):
        if pa.types.is_fixed_size_list(field.type):
            lists = _as_lists(table.column(place).chunk(0))
            table = table.set_column(place, field.name, lists)
    return table


def schema_as_written(schema: pa.Schema) -> pa.Schema:
    """The columns of a file whose rows `recording_schema` describes."""
    for place, field in enumerate(schema):
        if _is_image(field):
            schema = schema.set(place, field.with_type(pa.binary(field.type.list_size)))
        elif pa.types.is_fixed_size_list(field.type):
            schema = schema.set(place, field.with_type(pa.list_(field.type.value_type)))
    return schema


def as_recorded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns as they were written → as `recording_schema` says, of which `table` may have some only."""
    for place, name in enumerate(table.column_names):
        wanted = schema.field(name)
        if pa.types.is_fixed_size_list(wanted.type):
            turn = _from_bytes if pa.types.is_fixed_size_binary(table.schema.field(place).type) else _from_lists
            chunks = [turn(chunk, wanted.type) for chunk in table.column(place).chunks]
            table = table.set_column(place, wanted, pa.chunked_array(chunks, wanted.type))
    return table


def _as_lists(column: pa.Array) -> pa.Array:
    """Fixed-size lists → lists; those that are null take no space."""
    valid = np.asarray(column.is_valid())
    offsets = np.zeros(len(column) + 1, np.int32)
    np.cumsum(valid * column.type.list_size, out=offsets[1:])
    mask = pa.array(~valid) if column.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), column.flatten(), mask=mask)


def _from_lists(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists, all of one size or null → fixed-size lists."""
    flat, size = column.flatten(), kind.list_size
    if not column.null_count:
        return pa.FixedSizeListArray.from_arrays(flat, size)
    valid = np.asarray(column.is_valid())
    values = np.zeros((len(column), size), np.float32)
    values[valid] = flat.to_numpy().reshape(-1, size)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), size, mask=pa.array(~valid))


def _as_bytes(column: pa.Array) -> pa.Array:
    """Fixed-size lists of bytes → fixed-size binary; nothing is copied."""
    size, values = column.type.list_size, column.values
    start = values.offset + column.offset * size
    data = values.buffers()[1].slice(start, len(column) * size)
    return pa.Array.from_buffers(pa.binary(size), len(column), [_valid_bits(column), data])


def _from_bytes(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Fixed-size binary → fixed-size lists of bytes; nothing is copied."""
    size = kind.list_size
    data = column.buffers()[1].slice(column.offset * size, len(column) * size)
    values = pa.Array.from_buffers(pa.uint8(), len(column) * size, [None, data])
    return pa.Array.from_buffers(kind, len(column), [_valid_bits(column)], children=[values])


def _valid_bits(column: pa.Array) -> pa.Buffer | None:
    if not column.null_count:
        return None
    return pa.array(np.packbits(np.asarray(column.is_valid()), bitorder="little")).buffers()[1]


def _hashes(column: pa.Array) -> pa.Array:
    """The sha256 of each image, null where there is none."""
    found = [hashlib.sha256(each.as_buffer()).digest() if each.is_valid else None for each in column]
    return pa.array(found, pa.binary(32))
