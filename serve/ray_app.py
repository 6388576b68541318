"""Ray Serve: carla-serve as a deployment that scales over a cluster.

    serve run serve.ray_app:policy model=carla-policy@production

Engine, codecs, protocols, micro-batching, limits and following of the registry are carla-serve's; Ray adds the HTTP
proxy, the replicas and their autoscaling. Each replica takes a promoted version between two requests, without a
redeployment. Arguments are carla-serve's settings, and those in OF_RAY, which Ray knows by the same names.

Secrets are read on each node: POLICY_STATE_KEY, if it is set where the application is deployed, has to be the same in
the environment of every node, else no replica of that node starts.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import ray
from ray import serve

from carla_mlflow.contract.state_token import name_of_key
from carla_mlflow.flavor.environment import other_key
from serve.settings import PREFIX, Settings

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response as HttpResponse

READY_S = 120.0
"""Seconds after which a replica that is still not ready fails."""
OF_RAY = {
    "min_replicas": 1,
    "max_replicas": 8,
    "upscale_delay_s": 5.0,
    "downscale_delay_s": 300.0,
    "num_cpus": 1.0,
    "num_gpus": 0.0,
    "max_ongoing_requests": 256,
}
TARGET = 16.0
"""Concurrent requests per replica that autoscaling aims at: more are answered as fast, and fewer waste the replica."""


def policy(arguments: dict[str, Any]) -> Application:
    """Builds the application for `serve run`.

    Raises:
        ValueError: an argument is unknown or invalid.
    """
    own = {name: type(default)(arguments.get(name, default)) for name, default in OF_RAY.items()}
    given = {name: str(value) for name, value in arguments.items() if name not in OF_RAY}
    unknown = set(given) - {field.name for field in fields(Settings)}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    environment = {PREFIX + name.upper(): value for name, value in given.items()}
    settings = _settings(environment)
    if settings.problems():
        raise ValueError("; ".join(settings.problems()))
    deployment = serve.deployment(
        Replica,
        name="policy",
        max_ongoing_requests=int(own["max_ongoing_requests"]),
        autoscaling_config={
            "min_replicas": own["min_replicas"],
            "max_replicas": own["max_replicas"],
            "target_ongoing_requests": TARGET,
            "upscale_delay_s": own["upscale_delay_s"],
            "downscale_delay_s": own["downscale_delay_s"],
        },
        ray_actor_options={"num_cpus": own["num_cpus"], "num_gpus": own["num_gpus"]},
        health_check_period_s=1,
        graceful_shutdown_wait_loop_s=0.1,
    )
    return deployment.bind(environment, secrets.token_hex(8), name_of_key(settings.state_key))


def _settings(environment: dict[str, str]) -> Settings:
    from serve.flags import settings_from_environment

    return settings_from_environment({**os.environ, **environment})


def check_key(secret: str, expected: str) -> None:
    """Checks that this node has the state key of who deployed the application, if that had one.

    Raises:
        RuntimeError: it has another, or none.
    """
    problem = other_key(secret, expected) if expected else None
    if problem:
        raise RuntimeError(problem)


class Replica:
    """One process of the cluster that answers requests."""

    async def __init__(self, environment: dict[str, str], deployed: str, key: str) -> None:  # type: ignore[misc]  # Ray awaits it
        """Returns when the policy is loaded, verified, in parity and warm.

        Args:
            environment: settings as POLICY_ variables.
            deployed: id of this deployment; the next deployment may have another contract.
            key: the name of the state key of who deployed it.

        Raises:
            RuntimeError: this node has another state key or none, or the policy is not ready in time.
        """
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from serve.cluster.node import Node, meeting_folder
        from serve.run_folder import METRICS

        settings = _settings(environment)
        check_key(settings.state_key, key)
        folder = meeting_folder(settings, ray.get_runtime_context().get_node_id(), deployed)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / METRICS)  # read when prometheus_client is imported
        from serve.cluster.asgi import AsgiServer
        from serve.cluster.ray_contract import keep_contract
        from serve.dispatcher import Dispatcher
        from serve.following.startup import start_filling
        from serve.policy.slot import Slot
        from serve.record.start import start_recorder
        from serve.web.app import create_app

        self._node = node = Node(settings, folder)
        self._slot = slot = Slot(folder, settings.references)
        slot.poll_now = node.poll_now
        start_recorder(settings, folder)
        node.start()
        app = create_app(settings, slot)
        self._dispatcher = Dispatcher(asyncio.get_running_loop(), app, slot, settings)
        self._dispatcher.start()
        self._server = AsgiServer(self._dispatcher)
        start_filling(slot, settings, node.status_file)
        await self._until_ready()
        keep_contract(slot, deployed)
        self._sweeping = asyncio.create_task(self._sweep())

    async def _until_ready(self) -> None:
        began, ends = time.time(), time.monotonic() + READY_S
        while not self._slot.ready:
            followed = self._slot.followed
            if followed.refusal and (followed.polled_at or 0.0) > began:  # not one that an earlier process got
                raise RuntimeError(followed.refusal)
            if time.monotonic() > ends:
                raise RuntimeError(f"not ready: {self._slot.waits_for}")
            await asyncio.sleep(0.02)

    async def _sweep(self) -> None:
        from serve.record.hook import flush_records
        from serve.telemetry import metrics

        while True:
            await asyncio.sleep(0.1)
            self._dispatcher.response_writer.second()
            metrics.BUFFER.flush()
            flush_records()
            metrics.IN_FLIGHT.set(self._dispatcher.in_flight)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answers one request from Ray's proxy."""
        from starlette.responses import Response

        status, headers, body = await self._server.answer(request.scope, request.receive)
        response = Response(body, status)
        response.raw_headers = headers
        return response

    def __del__(self) -> None:
        """Called by Ray before it ends this process in order: what was recorded is written."""
        from serve.record.hook import stop_records

        stop_records()
        if hasattr(self, "_node"):  # not where the constructor failed
            self._node.stop()

    def check_health(self) -> None:
        """Called by Ray; raises RuntimeError when a forward hangs, so that Ray replaces this process."""
        if self._dispatcher.chunked_executor.hangs:
            raise RuntimeError("a forward pass took longer than forward_timeout_s")
