"""carla-registry gc: removes from this machine's cache the artifacts that no server would start from."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from carla_mlflow.cli import DONE, REFUSED
from carla_mlflow.command_parser import add_command
from carla_mlflow.look import show, size, table


def gc(options: argparse.Namespace) -> int:
    from registry.store.cache import default_cache, folder_bytes, unreferenced

    cache = options.cache_dir or default_cache()
    entries = unreferenced(cache)
    sizes = {path: folder_bytes(path) for path in entries}
    total = f"{len(entries)} artifact{'' if len(entries) == 1 else 's'}, {size(sum(sizes.values()))}"
    if not options.json:
        rows = [(f"{path.name[:12]}…", size(count)) for path, count in sizes.items()]
        print("\n".join([*([table(rows, right=True, headed=False)] if rows else []), total]))
    if entries and not options.yes and not _confirmed():
        print("nothing removed; --yes removes without asking", file=sys.stderr)
        if options.json:
            show(options.json, "", {"removed": [], "would remove": [path.name for path in entries]})
        return REFUSED
    for path in entries:
        shutil.rmtree(path)
    removed = {"removed": [path.name for path in entries], "bytes": sum(sizes.values())}
    show(options.json, f"removed from {cache}" if entries else f"{cache}: nothing to remove", removed)
    return DONE


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("remove them? [y/N] ").strip().lower() in {"y", "yes"}


def add_cache_commands(commands: Any) -> None:
    command = add_command(
        commands,
        "gc",
        "remove cached artifacts that no server would start from; asks first",
        ["carla-registry gc", "carla-registry gc --yes"],
    )
    command.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="the cache (default: POLICY_CACHE_DIR or the user's)"
    )
    command.add_argument("--yes", action="store_true", help="remove without asking")
    command.set_defaults(run=gc)
