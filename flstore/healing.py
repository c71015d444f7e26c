"""Objects that the persistent store holds damaged or not at all, mended from a whole copy that is still in memory."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from flstore import codec, tensors
from flstore.catalogue import Catalogue
from flstore.errors import CorruptObjectError, FLStoreError, StoreError, UpdateNotFoundError
from flstore.functions import wire
from flstore.persistence import Damage, ObjectStore, Verification, verify
from flstore.persistence.layout import job_path, object_path
from flstore.persistence.values import read
from flstore.types import Key, KeySet, Kind

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool

ASK_S = 2.0
ASK_BYTES_PER_S = 10e6
"""How long a function may take to hand out a copy: it may hang, and others may have one too."""

DAMAGED = (CorruptObjectError, UpdateNotFoundError)
"""What reading such an object raises."""
WAY_OUT = (
    "no whole copy is in the write buffer or the memory of a cache function: restore the object from a backup, or "
    "delete it (ObjectStore.delete) and ingest it again"
)


class Copy(NamedTuple):
    """A whole copy of an object: codec bytes or a metadata row, where it was, and whether it was stored again."""

    value: Any
    source: str
    stored: bool


class Healing:
    """Finds whole copies and mends the persistent store with them.

    Parameters
    ----------
    objects : ObjectStore
        What is mended.
    pool : FunctionPool
        Functions, each of which may hold a copy.
    catalogue : Catalogue
        What should be there, and its sizes.
    not_durable : callable
        The bytes or metadata row of an object that the persistent store may not have yet, or None.
    """

    def __init__(
        self, objects: ObjectStore, pool: FunctionPool, catalogue: Catalogue, not_durable: Callable[[Key], Any]
    ) -> None:
        self._objects = objects
        self._pool = pool
        self._catalogue = catalogue
        self._not_durable = not_durable
        self._told: set[Key] = set()

    async def copy(self, key: Key) -> Copy | None:
        """A whole copy of an object that could not be read, after the store was mended with it (on the event loop).

        Metadata rows are handed out, but their document is not mended: it holds more than they do. Without a copy the
        store is read once more, because what was damaged may have been the transfer alone.
        """
        if not self._catalogue.has(key):
            return None  # deleted: what a request in flight still has pinned must not bring it back
        found = await self._from_memory(key)
        if found is None:
            return await asyncio.to_thread(self._read_again, key)
        if key.kind is Kind.METADATA:
            return found
        return await asyncio.to_thread(self._mend, key, found)

    async def value(self, key: Key, error: FLStoreError) -> Any:
        """The value of :meth:`copy`; raises `error` with the way out when there is none (on the event loop)."""
        found = await self.copy(key)
        if found is None:
            raise hopeless(key, error)
        return found.value

    def value_now(self, key: Key, error: FLStoreError) -> Any:
        """:meth:`value`, from any other thread."""
        return self._pool.sync(self.value(key, error))

    def verify(self, job: str, heal: bool, progress: bool) -> Verification:
        """Verify a job in the persistent store, against what should be there too, and mend what can be mended."""
        expected = self._expected()
        root, options = self._objects.spec["root"], self._objects.spec["storage_options"]
        try:
            found = verify(root, options, job=job, progress=progress)
        except UpdateNotFoundError:  # nothing at all of this job
            found = Verification(self._objects.root, job, 0, 0, [], [], [])
        listed = set(self._objects.files(job_path(job)))
        lost = [k for k in expected if object_path(k) not in listed and self._is_lost(k)]
        damaged = [*found.damaged, *(Damage(k, object_path(k), "it is missing") for k in lost)]
        if not heal:
            return replace(found, damaged=damaged)
        left, healed = [], []
        for damage in damaged:
            copy = self._pool.sync(self.copy(damage.key))
            if copy is not None and copy.stored:
                healed.append(replace(damage, reason=f"{damage.reason}; healed from {copy.source}"))
            else:
                left.append(damage)
        return replace(found, damaged=left, healed=healed)

    # --- where copies are -------------------------------------------------------------------------------------------

    async def _from_memory(self, key: Key) -> Copy | None:
        value = self._not_durable(key)
        if value is not None:
            return Copy(value, "the write buffer", False)
        asked = [asyncio.ensure_future(self._ask(number, key)) for number in list(self._pool.functions)]
        try:
            for done in asyncio.as_completed(asked):
                found = await done
                if found is not None:
                    return found
        finally:
            for each in asked:
                each.cancel()
        return None

    async def _ask(self, number: int, key: Key) -> Copy | None:
        """A copy from one function, verified before anybody uses it."""
        function = self._pool.functions.get(number)
        asking = self._pool.call(number, "get", keys=wire.pack([wire.key_values(key)]))
        try:
            reply = await asyncio.wait_for(asking, ASK_S + self._catalogue.size(key) / ASK_BYTES_PER_S)
            data = reply["data"][0]
            if data is None or function is None:
                return None
            value = await asyncio.to_thread(_verified, key, data)
        except (FLStoreError, OSError):  # it hangs, went away, or holds something else: another one may have a copy
            return None
        return Copy(value, f"the memory of {function.name}", False)

    def _read_again(self, key: Key) -> Copy | None:
        with contextlib.suppress(StoreError, UpdateNotFoundError):
            value, _ = read(self._objects, key)
            return Copy(value if key.kind is Kind.METADATA else value.buffer, "a second read", True)
        return None

    # --- the store --------------------------------------------------------------------------------------------------

    def _mend(self, key: Key, found: Copy) -> Copy:
        """Store a copy, unless the stored object is whole by now, and say so once."""
        try:
            changed = self._objects.heal(key, found.value)
        except StoreError as error:
            self._warn(key, f"{key} is damaged or missing; it was read from {found.source}, but not stored: {error}")
            return found
        if changed:
            self._warn(key, f"{key} was damaged or missing below {self._objects.root}; healed from {found.source}")
        return found._replace(stored=True)

    def _warn(self, key: Key, said: str) -> None:
        if key not in self._told:
            self._told.add(key)
            warnings.warn(said, RuntimeWarning, stacklevel=2)

    def _expected(self) -> list[Key]:
        """All updates and aggregates that the persistent store should have."""
        keys: list[Key] = []
        with self._catalogue.lock:
            for (job, kind, round), table in self._catalogue.state.slots():
                if kind is not Kind.METADATA:
                    keys += self._catalogue.keys(KeySet.of_round(job, kind, round, table.clients))
        return keys

    def _is_lost(self, key: Key) -> bool:
        # In this order: a write that ends in between is stored.
        return self._not_durable(key) is None and not self._objects.exists(key)


def hopeless(key: Key, error: FLStoreError) -> FLStoreError:
    """`error` with the reason why it is final, and the way out."""
    final = type(error)(f"{error}; {WAY_OUT}")
    final.key = key
    return final


def _verified(key: Key, data: Any) -> Any:
    if key.kind is Kind.METADATA:
        return wire.unpack(data)
    buffer = tensors.aligned_copy(data)
    codec.decode(buffer, key=key)
    return buffer
