"""The ring in shared memory: what is read is what was written, and what was overwritten is counted."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from serve.record.ring import ACTED, HEAD_BYTES, SMALLEST, RingError, rings_in
from serve.record.ring_reader import RingReader
from serve.record.ring_writer import RingWriter

DIGEST = bytes(range(32))
PRODUCER = """
import hashlib, sys
from pathlib import Path
from serve.record.ring_writer import RingWriter
ring = RingWriter(Path(sys.argv[1]), 1 << 20)
for number in range(int(sys.argv[2])):
    body = number.to_bytes(8, "big") * (number * 37 % 2000)
    ring.append(hashlib.sha256(body).digest(), 1 + number % 5, 0, body)
ring.close()
"""


def test_each_reader_gets_every_block_in_order(tmp_path: Path):
    ring = RingWriter(tmp_path, SMALLEST)
    [path] = rings_in(tmp_path)
    early, late = RingReader(path), RingReader(path)
    written = [(rows, rows.to_bytes(2, "big") * rows) for rows in (1, 5, 200)]
    for rows, payload in written:
        ring.append(DIGEST, rows, ACTED, payload)
        assert [(block.rows, block.payload) for block in early.read()] == [(rows, payload)]
    found = list(late.read())
    assert [(block.rows, block.payload) for block in found] == written
    assert [block.first for block in found] == [0, 1, 6]
    assert {block.digest for block in found} == {DIGEST.hex()}
    assert (early.lost, late.lost, early.sequence, late.missing) == (0, 0, 206, 0)


def test_a_reader_that_is_overtaken_knows_how_many_rows_it_lost(tmp_path: Path):
    draw = random.Random(0)
    ring = RingWriter(tmp_path, SMALLEST)
    reader = RingReader(rings_in(tmp_path)[0])
    got = 0
    for _ in range(3000):
        ring.append(DIGEST, draw.randint(1, 300), 0, bytes(draw.randint(0, 30_000)))
        if draw.random() < 0.01:
            for block in reader.read():
                got += block.rows
    got += sum(block.rows for block in reader.read())
    assert reader.lost > 0
    assert got + reader.lost == ring.sequence


def test_a_reader_goes_on_from_a_sequence_number_or_begins_with_what_comes(tmp_path: Path):
    ring = RingWriter(tmp_path, SMALLEST)
    for _ in range(4):
        ring.append(DIGEST, 10, 0, b"")
    [path] = rings_in(tmp_path)
    resumed, new = RingReader(path, 20), RingReader(path, None)
    ring.append(DIGEST, 10, 0, b"")
    assert [block.first for block in resumed.read()] == [20, 30, 40]
    assert [block.first for block in new.read()] == [40]
    assert (resumed.lost, new.lost) == (0, 0)


def test_a_block_that_is_too_large_is_counted_and_harms_no_other(tmp_path: Path):
    ring = RingWriter(tmp_path, SMALLEST)
    reader = RingReader(rings_in(tmp_path)[0])
    ring.append(DIGEST, 1, 0, b"before")
    ring.append(DIGEST, 7, 0, bytes(SMALLEST))
    ring.append(DIGEST, 1, 0, b"after")
    assert [block.payload for block in reader.read()] == [b"before", b"after"]
    assert (reader.failed, reader.lost, reader.sequence) == (7, 0, 9)


def test_a_reader_beside_a_producer_at_full_speed_reads_no_torn_block(tmp_path: Path):
    blocks = 30_000
    producer = subprocess.Popen([sys.executable, "-c", PRODUCER, str(tmp_path), str(blocks)])
    while not (paths := rings_in(tmp_path)):
        assert producer.poll() is None
    reader, got = RingReader(paths[0]), 0
    while not reader.is_closed or reader.behind:
        for block in reader.read():
            assert hashlib.sha256(block.payload).hexdigest() == block.digest
            got += block.rows
    assert producer.wait() == 0
    assert got + reader.lost == sum(1 + number % 5 for number in range(blocks))
    assert reader.missing == 0


def test_a_file_that_is_no_ring_is_refused(tmp_path: Path):
    path = tmp_path / "1-a.ring"
    path.write_bytes(bytes(HEAD_BYTES))
    with pytest.raises(RingError, match="is no ring"):
        RingReader(path)
    path.write_bytes(b"")
    with pytest.raises(RingError, match=r"1-a\.ring"):
        RingReader(path)


def test_only_the_owner_may_read_a_ring(tmp_path: Path):
    assert RingWriter(tmp_path, SMALLEST).path.stat().st_mode & 0o777 == 0o600
