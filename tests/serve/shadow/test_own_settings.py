"""The settings that the shadow's policy is followed and loaded by: the server's, without what is the server's alone."""

from __future__ import annotations

from serve.settings import Settings
from serve.shadow.policy import own_settings


def test_it_follows_its_reference_alone_whatever_else_the_server_follows():
    theirs = Settings(
        model="mine@production", also="mine@^1.2", canary=True, shadow="mine@staging", shadow_log=True, record="rec"
    )
    ours = own_settings(theirs)
    assert theirs.problems() == ours.problems() == []
    assert (ours.references, ours.canary, ours.digest) == (("mine@staging",), False, "")
    assert (ours.shadow, ours.record) == ("", "")  # it has neither a shadow nor a recording
    assert ours.cache_dir != theirs.cache_dir
