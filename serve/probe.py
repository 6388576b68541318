"""python -m serve.probe [--path /healthz]: exits with 0 if the server in this container is ready, else with 1.

For HEALTHCHECK and exec probes in images without curl. Sends a GET request to POLICY_PORT on this machine.
"""

from __future__ import annotations

import argparse
import http.client
import os
import ssl
import sys

LIMIT_S = 3.0
PORT = 8080
"""The server's default, repeated here because importing its settings takes longer than the request."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m serve.probe", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--path", default="/readyz", help="path to request (default /readyz)")
    options = parser.parse_args()
    configured = os.environ.get("POLICY_PORT", "")
    port = int(configured) if configured.isdigit() else PORT  # Kubernetes sets tcp://… for a Service named `policy`
    connection = _connection(port)
    try:
        connection.request("GET", options.path)
        answer = connection.getresponse()
    except OSError as error:
        print(f"port {port}: {error}", file=sys.stderr)
        return 1
    print(answer.read(4096).decode())
    return 0 if answer.status == 200 else 1


def _connection(port: int) -> http.client.HTTPConnection:
    if not os.environ.get("POLICY_CERTFILE"):
        return http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    context = ssl.create_default_context()
    context.check_hostname = False  # the certificate names the service, not 127.0.0.1
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=LIMIT_S, context=context)


if __name__ == "__main__":
    sys.exit(main())
