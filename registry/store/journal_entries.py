"""The journal's entries, kept as versions of a registered model of their own (docs/adr/0010)."""

from __future__ import annotations

import contextlib
import time

from carla_mlflow.errors import NotFoundError, RegistryError, UnreachableError
from registry.rules.journal import WRITER, Entry, Link, read_entry
from registry.rules.reference import JOURNAL
from registry.store.client import RegistryClient

ENTRY = "journal:/"
"""Prefix of the source of a journal's entry; unlike a tag, a source can't be edited."""
VOID = "void"
"""Prefix of the description of an entry that lost a race."""


class JournalEntries(RegistryClient):
    """Reads and writes a policy's journal."""

    def journal(self, name: str, after: int = 0) -> list[Entry]:
        """The entries of a policy's journal, including those that lost a race, in the order of their numbers.

        Args:
            name: the policy's name.
            after: only entries with higher numbers than this.
        """
        return [
            read_entry(
                int(v.version),
                v.tags.get("entry", ""),
                v.tags.get("hash", ""),
                "applied" in v.tags,
                is_void=(v.description or "").startswith(VOID),
                is_foreign=not (v.source or "").startswith(ENTRY),
                writers={key: text for key, text in v.tags.items() if key.startswith(WRITER)},
            )
            for v in self._raw_versions(name + JOURNAL, after=after)
        ]

    def append(self, name: str, link: Link, text: str) -> int:
        """Writes an entry; the number shows whether another was written before it (see `registry.rules.chain`)."""
        tags = {"entry": link.to_bytes().decode(), "hash": link.hash}
        source = f"{ENTRY}{name}/{link.after}"  # names no files: an entry has none
        create = self._client.create_model_version
        try:
            made = self._call(create, name + JOURNAL, source, tags=tags, description=text, await_creation_for=0)
        except NotFoundError:
            self._create_journal(name)
            made = self._call(create, name + JOURNAL, source, tags=tags, description=text, await_creation_for=0)
        return int(made.version)

    def mark_void(self, name: str, number: int) -> None:
        """Marks an entry, in its description, as one that lost a race and never counted.

        It is not deleted, since while MLflow deletes a version others read it without its tags, as if it was edited.
        """
        text = f"{VOID}: another entry was written before it"
        self._call(self._client.update_model_version, name + JOURNAL, str(number), description=text)

    def mark_applied(self, name: str, number: int) -> None:
        """Marks an entry's move as carried out."""
        self._set_tag(name + JOURNAL, str(number), "applied", "true")

    def begin_writing(self, name: str, number: int, writer: str) -> None:
        """Tags an entry with the time at which a process began to write aliases for it; see `registry.moves.apply`."""
        self._set_tag(name + JOURNAL, str(number), writer, str(time.time()))

    def end_writing(self, name: str, number: int, writer: str) -> None:
        """Removes the tag of a process that has finished writing, or died."""
        with contextlib.suppress(NotFoundError):  # another process took it for dead
            self._insist(self._client.delete_model_version_tag, name + JOURNAL, str(number), writer)

    def _create_journal(self, name: str) -> None:
        text = f"The history of {name}: one version per entry. Read it with carla-registry history {name}."
        with contextlib.suppress(RegistryError, UnreachableError):  # another process created it at the same moment
            self._call(self._client.create_registered_model, name + JOURNAL, description=text)
