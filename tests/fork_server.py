"""A process that has imported what commands take, and forks one for each that a shell of a test runs.

The imports of torch and MLflow are most of what a command costs: seconds of CPU time. Of the project nothing is
imported before, so that each command reads its settings and imports its own modules as it would alone. For tests of
what commands do in their order: that they start by themselves is shown by others, and by scripts/wheel-demo.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

BIN = Path(sys.executable).parent
CLIENT = Path(__file__).with_name("fork_client.py")


@contextlib.contextmanager
def forked_commands(
    folder: Path, names: Sequence[str], modules: Sequence[str], environment: dict[str, str]
) -> Iterator[None]:
    """Puts commands into a folder for a PATH, which last as long as the block.

    Args:
        folder: with a path short enough for a socket in it.
        names: of the commands: `python`, or programs that lie beside it.
        modules: what each of them finds imported.
        environment: in which that is imported; each command has its caller's.
    """
    for name in names:
        (folder / name).write_text(f"#!{sys.executable} -IS\n{CLIENT.read_text()}")
        (folder / name).chmod(0o755)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.listen(16)  # before it has imported anything: the first command waits
    command = [sys.executable, __file__, str(listening.fileno()), *modules]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, pass_fds=[listening.fileno()]
    )
    listening.close()
    try:
        yield
    finally:
        server.communicate()
    assert server.returncode == 0


def serve(listening: socket.socket) -> tuple[str, list[str]] | None:
    """Forks a process for each command that is asked for, until standard input ends.

    Returns:
        In a process that was forked: the name and the arguments of its command. In the server None, at the end.
    """
    running: dict[int, tuple[int, socket.socket]] = {}  # a descriptor of the process → its id, and who asked for it
    while True:
        ready, _, _ = select.select([0, listening, *running], [], [])
        for descriptor in running.keys() & set(ready):
            child, asked = running.pop(descriptor)
            with contextlib.suppress(OSError), asked:  # who asked for it may have been killed
                asked.sendall(f"{os.waitpid(child, 0)[1]}\n".encode())
            os.close(descriptor)
        if listening in ready:
            asked, _ = listening.accept()
            length, streams, _, _ = socket.recv_fds(asked, 4, 3)
            with asked.makefile("rb") as reader:
                name, arguments, folder, environment = json.loads(reader.read(int.from_bytes(length, "big")))
            child = os.fork()
            if child == 0:
                for each in (listening, asked, *(other for _, other in running.values())):
                    each.close()
                become(streams, folder, environment)
                return name, arguments
            for stream in streams:
                os.close(stream)
            asked.sendall(f"{child}\n".encode())
            running[os.pidfd_open(child)] = child, asked
        if 0 in ready:
            for child, _ in running.values():
                os.kill(child, signal.SIGKILL)
            return None


def become(streams: Sequence[int], folder: str, environment: dict[str, str]) -> None:
    """Gives this process the streams, the folder and the environment of whoever asked for it."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # forked processes would draw the same numbers


def run(name: str, arguments: list[str]) -> None:
    """Runs a command as Python does when it is its main program."""
    if name == "python":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [str(BIN / name), *arguments], str(BIN)
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    own = str(os.getpid())
    for module in sys.argv[2:]:
        importlib.import_module(module)
    names = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir() if task.name != own}
    assert names <= {"jemalloc_bg_thd"}, f"threads, which no forked process would have: {names}"  # it begins its anew
    gc.collect()
    gc.freeze()
    if (asked_for := serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        run(*asked_for)
