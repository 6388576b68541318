"""How much of a version has arrived is counted while the download moves and removes its own folders."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from registry.store.cache import fetched_bytes

DIGEST = "sha256:" + "a" * 64
FOLDERS, LOOKS = 40, 3000


def churn(partial: Path, stop: threading.Event) -> None:
    """Fills and removes a folder inside, as a download does with its own."""
    download = partial / ".download" / "artifacts"
    while not stop.is_set():
        for number in range(FOLDERS):
            (download / str(number)).mkdir(parents=True, exist_ok=True)
            (download / str(number) / "part").write_bytes(b"...")
        shutil.rmtree(partial / ".download")


def test_counting_what_arrived_survives_folders_that_vanish(tmp_path: Path):
    partial = tmp_path / "artifacts" / f".{'a' * 64}.1.partial"
    partial.mkdir(parents=True)
    (partial / "card.yaml").write_bytes(b"12345")
    stop = threading.Event()
    thread = threading.Thread(target=churn, args=(partial, stop))
    thread.start()
    try:
        counts = {fetched_bytes(tmp_path, DIGEST) for _ in range(LOOKS)}
    finally:
        stop.set()
        thread.join()
    assert len(counts) > 1
    assert all(5 <= count <= 5 + 3 * FOLDERS for count in counts)
