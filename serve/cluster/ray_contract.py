"""Keeps a deployment under Ray to one contract, on every node of the cluster.

The processes of one node agree on it by their run folder, and the nodes by Ray's key-value store, where each deployment
has its own keys.
"""

from __future__ import annotations

from ray.experimental import internal_kv

from serve.following.last_served import Good, good_file
from serve.policy.slot import Slot
from serve.run_folder import Status, write_file

SPACE = b"carla-serve"


def keep_contract(slot: Slot, deployed: str) -> None:
    """Keeps every node to the contracts that the first of them served.

    Args:
        slot: of this process.
        deployed: id of the deployment.

    Raises:
        RuntimeError: this process serves another contract; its replacement will refuse that.
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
