"""The contract of a deployment under Ray, on every node of the cluster.

On one node the processes agree in their folder; the nodes agree in Ray's own store of keys and values, where each
deployment has keys of its own.
"""

from __future__ import annotations

from ray.experimental import internal_kv

from serve.following.last_served import Good, good_file
from serve.policy.slot import Slot
from serve.run_folder import Status, write_file

SPACE = b"carla-serve"


def keep_contract(slot: Slot, deployed: str) -> None:
    """Has every node keep to the contracts that the first one of them served.

    Args:
        slot: of this process.
        deployed: tells one deployment from the next.

    Raises:
        RuntimeError: it serves another one; what starts in its place refuses that.
    """
    for index, (reference, serving) in enumerate(zip(slot.references, slot.servings, strict=True)):
        if reference is None or serving is None:
            continue
        key, contract = f"contract-{deployed}-{index}".encode(), serving.card.contract
        internal_kv._internal_kv_put(key, contract.encode(), overwrite=False, namespace=SPACE)
        kept = internal_kv._internal_kv_get(key, namespace=SPACE).decode()
        if kept != contract:
            write_file(good_file(slot.folder, index), Good(Status(), kept))
            raise RuntimeError(f"{reference} has another contract than on the other nodes; deploy it anew to take it")
