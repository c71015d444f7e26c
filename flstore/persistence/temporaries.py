"""Whose data an unfinished file holds: such a file has a random name, so its content must say."""

from __future__ import annotations

import json

from flstore.persistence.tables import MAGIC
from flstore.tensors import Buffer, as_bytes


def may_be_of(client: str, data: Buffer) -> bool:
    """Whether the bytes of an object or of a metadata document, perhaps torn, name `client` as one they are about.

    Examples
    --------
    >>> (
    ...     may_be_of("7", b'........{"__metadata__":{"client":"7"'),
    ...     may_be_of("7", b'........{"__metadata__":{"client":"77"'),
    ... )
    (True, False)
    """
    content = bytes(as_bytes(data))
    if content.startswith(b"{"):
        # A document may be torn right after the name, so nothing that follows it is asked for.
        return json.dumps(client).encode() in content
    if content.startswith(MAGIC):
        name = client.encode()
        return len(name).to_bytes(4, "little") + name in content  # the column of clients comes before what they sent
    return f'"client":{json.dumps(client, ensure_ascii=False)}'.encode() in content
