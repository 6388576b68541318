"""MLflow's webhook, which reports changes in the registry. It is only a hint to poll the registry at once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import time
from collections import OrderedDict
from typing import Protocol

from serve.errors import ApiError
from serve.limits import MAX_HOOK_AGE_S, MAX_HOOK_DELIVERIES


class Headers(Protocol):
    """The headers of a request."""

    def get(self, key: str, default: str) -> str: ...


class Hook:
    """Checks a delivery's signature and time, and whether it has come before."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def is_news(self, headers: Headers, body: bytes) -> bool:
        """Whether a delivery is genuine and new; False for one that came before.

        Args:
            headers: X-MLflow-Delivery-Id, X-MLflow-Timestamp and X-MLflow-Signature are read.
            body: as received.

        Raises:
            ApiError: unauthorized: it is not signed with our secret, or its time is not recent.
        """
        delivery, stamp = headers.get("X-MLflow-Delivery-Id", ""), headers.get("X-MLflow-Timestamp", "")
        signed = hmac.new(self._secret, f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
        expected = b"v1," + base64.b64encode(signed)
        given = headers.get("X-MLflow-Signature", "").encode()
        if not hmac.compare_digest(expected, given):
            raise ApiError("unauthorized", "the delivery is not signed with this server's secret")
        if not re.fullmatch(r"\d{1,12}", stamp, re.ASCII) or abs(time.time() - int(stamp)) > MAX_HOOK_AGE_S:
            raise ApiError("unauthorized", f"the delivery is not from the last {MAX_HOOK_AGE_S} s")
        with self._lock:
            if delivery in self._seen:
                return False
            self._seen[delivery] = None
            if len(self._seen) > MAX_HOOK_DELIVERIES:
                self._seen.popitem(last=False)
            return True
