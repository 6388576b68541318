"""The rows of the table: each is one way to abuse a server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tqdm import tqdm

from benchmarks.hostile import bodies, framing, mutations, slow, values
from benchmarks.hostile.saying import LATEST_S, Case, Tally, judge, judge_one, say
from benchmarks.support.command_line import EXAMPLE
from benchmarks.support.connection import Connection
from benchmarks.support.requests import http_request
from benchmarks.support.responses import Response
from carla_mlflow import open_artifact

MAX_PER_SECOND = 500
"""The attack's rate limit: it shares two cores with the server, which is what is measured."""
NO_FAULT = frozenset({200, 400, 404, 405, 408, 411, 413, 414, 415, 417, 422, 431, 501, 504, 505})
Judge = Callable[[Case, Response], str | None]
"""A case and its response → what is wrong, or None."""


def _bytes(case: Case) -> bytes:
    assert isinstance(case.sent, bytes)
    return case.sent


@dataclass
class Attack:
    """What a row needs to attack a server, and where it counts its results; `kind` is the server's worker class."""

    port: int
    good: values.Bodies
    kind: str
    mutations: int
    quick: bool
    tally: Tally
    bar: tqdm

    def alone(self, cases: Iterable[Case]) -> None:
        """Sends each case on its own connection."""
        for case in cases:
            try:
                responses = say(self.port, case.sent, case.closes)
                status, problem = responses[0].status if responses else 0, judge(case, responses)
            except (OSError, ValueError) as error:
                status, problem = 0, repr(error)
            self._count(case.name, status, problem)

    def kept(self, cases: Iterable[Case], problem_of: Judge = lambda case, response: None) -> None:
        """Sends the cases on one connection, reopened when the server closes it; `problem_of` judges as well."""
        with Connection(self.port, LATEST_S) as connection:
            for case in cases:
                status, problem = 0, None
                try:
                    response = connection.ask(_bytes(case))
                    status, problem = response.status, judge_one(response, case.allowed) or problem_of(case, response)
                except (OSError, ValueError) as error:
                    problem = repr(error)
                    connection.close()
                self._count(case.name, status, problem)

    def _count(self, name: str, status: int, problem: str | None) -> None:
        self.tally.add(status, f"{name}: {problem}" if problem else None)
        self.bar.update()
        time.sleep(1 / MAX_PER_SECOND)


def json_values(attack: Attack) -> None:
    cases = values.numbers(attack.good)
    attack.kept(itertools.islice(cases, 0, None, 20) if attack.quick else cases)


def json_documents(attack: Attack) -> None:
    attack.kept(values.options(attack.good))
    attack.kept(values.shapes(attack.good))
    attack.alone(bodies.deep())


def tensors(attack: Attack) -> None:
    attack.kept(values.tensors(attack.good))
    attack.kept(values.binary(attack.good))


def framings(attack: Attack) -> None:
    attack.alone(framing.cases(attack.good.good, attack.kind == "loop"))


def large(attack: Attack) -> None:
    attack.alone(bodies.declared())
    attack.alone(bodies.sent())


def bombs(attack: Attack) -> None:
    attack.alone(bodies.packed(attack.good.good))


def climbing(attack: Attack) -> None:
    attack.alone(framing.traversing())


def reflected(attack: Attack) -> None:
    attack.alone(framing.reflecting(attack.good.good))
    attack.alone(slow.media_types(attack.good.good))


def mutated(attack: Attack) -> None:
    reference = mutations.Reference(open_artifact(EXAMPLE))
    changed = mutations.bodies(attack.good.good, attack.mutations, 1)
    cases = (Case(repr(body[:80]), http_request("/predict", body, "application/json"), NO_FAULT) for body in changed)
    attack.kept(cases, lambda case, response: reference.problem(_bytes(case).partition(b"\r\n\r\n")[2], response))
    heads = mutations.heads(attack.good.good, attack.mutations // 4, 2)
    attack.alone(Case(repr(head[:120]), head, NO_FAULT, may_end=True) for head in heads)


def slow_clients(attack: Attack) -> None:
    for one in (slow.dripping, slow.deaf, slow.idle):
        one(attack.port, attack.good.good, attack.tally)


def in_time(attack: Attack) -> None:
    slow.budgets(attack.port, attack.good.good, attack.tally)


def at_once(attack: Attack) -> None:
    slow.too_many(attack.port, attack.good.good, attack.tally)


ROWS: dict[str, tuple[str, Callable[[Attack], None]]] = {
    "values": ("deep nesting, huge ints, 1e309, 1e39, NaN, null, …", json_values),
    "documents": ("duplicate keys, unknown fields, options, shapes", json_documents),
    "tensors": ("wrong dtype, shape, names, binary sizes", tensors),
    "framing": ("chunk abuse, CL/TE smuggling, truncated bodies", framings),
    "large": ("1 TiB declared, 256 MiB sent", large),
    "bombs": ("gzip bombs, nested encodings", bombs),
    "climbing": ("path traversal in names and versions", climbing),
    "reflected": ("Host, X-Forwarded, request ids, media types", reflected),
    "mutated": ("good requests with bytes changed", mutated),
    "budgets": ("budgets that are over, or none", in_time),
    "overload": ("100 × 50 pipelined, 16 in flight at most", at_once),
    "slow": ("slow heads and bodies, deaf and idle clients", slow_clients),
}
