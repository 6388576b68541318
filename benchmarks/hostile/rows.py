"""The rows of the table: each is one way to abuse a server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tqdm import tqdm

from benchmarks.command_line import EXAMPLE
from benchmarks.hostile import bodies, framing, mutations, slow, values
from benchmarks.hostile.saying import Case, Kept, Tally, judge, judge_one, say
from carla_mlflow import open_artifact

MAX_PER_SECOND = 500
"""The attack's rate limit: it shares two cores with the server, which is what is measured."""
NO_FAULT = frozenset({200, 400, 404, 405, 408, 411, 413, 414, 415, 417, 422, 431, 501, 504, 505})


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
                replies = say(self.port, case.sent, case.closes)
                status, problem = replies[0].status if replies else 0, judge(case, replies)
            except (OSError, ValueError) as error:
                status, problem = 0, repr(error)
            self._count(case.name, status, problem)

    def kept(self, cases: Iterable[Case]) -> None:
        """Sends the cases on one connection, reopened when the server closes it."""
        asking = Kept(self.port)
        for case in cases:
            try:
                assert isinstance(case.sent, bytes)
                reply = asking.ask(case.sent)
                status, problem = reply.status, judge_one(reply, case.allowed)
            except (OSError, ValueError) as error:
                status, problem = 0, repr(error)
                asking.end()
            self._count(case.name, status, problem)
        asking.end()

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
    reference, asking = mutations.Reference(open_artifact(EXAMPLE)), Kept(attack.port)
    for body in mutations.bodies(attack.good.good, attack.mutations, 1):
        status, problem = 0, None
        try:
            reply = asking.ask(values.http_request("/predict", body, "application/json"))
            status, problem = reply.status, judge_one(reply, NO_FAULT) or reference.problem(body, reply)
        except (OSError, ValueError) as error:
            problem = repr(error)
            asking.end()
        attack._count(repr(body[:80]), status, problem)
    asking.end()
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
