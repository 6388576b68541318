"""Stands in a shell's PATH for a command, under its name, and has the fork server beside it run that.

What it is given goes on: arguments, folder, environment, the three streams, and the signals that ask for an end. It
ends as the command does. `python` stands for itself, but for `python -m` one of the project's modules.
"""

import json
import os
import signal
import socket
import sys

OURS = ("benchmarks", "carla_agent", "carla_mlflow", "registry", "serve", "training_export")


def main() -> None:
    folder, name = os.path.split(os.path.abspath(sys.argv[0]))
    arguments = sys.argv[1:]
    if name == "python" and (arguments[:1] != ["-m"] or arguments[1].partition(".")[0] not in OURS):
        os.execv(sys.executable, [name, *arguments])
    asked = socket.socket(socket.AF_UNIX)
    asked.connect(os.path.join(folder, "socket"))
    request = json.dumps([name, arguments, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(asked, [len(request).to_bytes(4, "big")], [0, 1, 2])
    asked.sendall(request)
    answer = asked.makefile()
    child = int(answer.readline())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: os.kill(child, got))
    code = os.waitstatus_to_exitcode(int(answer.readline()))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


main()
