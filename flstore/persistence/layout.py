"""Where objects lie below a root, and back: ``job=<id>/round=00000007/update/client=<id>.safetensors``.

Ids are percent-encoded. That leaves ``.`` and ``..`` as they are, so it is the ``job=`` and ``client=`` in front of
them that keeps every path below the root.
"""

from __future__ import annotations

import operator
import re
from urllib.parse import quote, unquote

from flstore.errors import InvalidIdError, InvalidParameterError
from flstore.types import Key, Kind

MAX_ID_BYTES = 200
"""Of an encoded id. File systems allow 255 bytes a name, and a path has more than the id in it."""
MAX_ROUND = 99_999_999
RUN = "run.json"
"""Document in a root itself: with what arguments the run that lies there was recorded, and how far it is."""

_ROUND = re.compile(r"round=([0-9]{8})")
_TEMPORARY = re.compile(r"(?:job=[^/]+/round=[0-9]{8}/(?:update/)?)?\.(?:flstore-)?[0-9a-f]{32}\.tmp")
_WRITER = re.compile(r"job=[^/]+/\.writer\.(?:lock|guard|new|lease)")
_FILE = re.compile(
    r"job=([^/]+)/round=([0-9]{8})/(?:update/client=([^/]+)\.safetensors|(aggregate\.safetensors|metadata\.parquet|metadata\.json))"
)


def encode_id(what: str, name: str) -> str:
    """Percent-encode the id of a `what` (``"job"``, ``"client"``).

    Raises
    ------
    InvalidIdError
        Not a string, empty, not Unicode, or over 200 bytes once encoded.
    """
    if not isinstance(name, str):
        raise InvalidIdError(f"a {what} id is a string, not {name!r}; write str({name!r})")
    if not name:
        raise InvalidIdError(f"a {what} id cannot be empty")
    try:
        encoded = quote(name, safe="")
    except UnicodeEncodeError as exc:
        raise InvalidIdError(f"{what} id {name!r} is not valid Unicode") from exc
    if len(encoded) > MAX_ID_BYTES:
        raise InvalidIdError(
            f"{what} id {name[:24]!r}... takes {len(encoded)} bytes once percent-encoded; the limit is {MAX_ID_BYTES}"
        )
    return encoded


def job_path(job: str) -> str:
    """Folder of a job."""
    return f"job={encode_id('job', job)}"


def round_path(job: str, round: int) -> str:
    """Folder of a round.

    Raises
    ------
    InvalidParameterError
        A round that is no integer, negative, or above 99,999,999.
    """
    try:
        number = operator.index(round)
    except TypeError:
        raise InvalidParameterError(f"a round is an integer, not {round!r}") from None
    if isinstance(round, bool) or not 0 <= number <= MAX_ROUND:
        raise InvalidParameterError(f"round {round!r} is outside 0..{MAX_ROUND}")
    return f"{job_path(job)}/round={number:08d}"


def aggregate_path(job: str, round: int) -> str:
    """File of the global model after `round`.

    Parameters
    ----------
    job : str
        The FL job.
    round : int
        The round.
    """
    return f"{round_path(job, round)}/aggregate.safetensors"


def metadata_path(job: str, round: int) -> str:
    """File of all metadata of `round`.

    Parameters
    ----------
    job : str
        The FL job.
    round : int
        The round.
    """
    return f"{round_path(job, round)}/metadata.parquet"


def old_metadata_path(job: str, round: int) -> str:
    """Where a version before Parquet kept the metadata of `round`; still read, and replaced when the round changes."""
    return f"{round_path(job, round)}/metadata.json"


def object_path(key: Key) -> str:
    """File of an object, relative to the root.

    Parameters
    ----------
    key : Key
        Of the object.

    Raises
    ------
    InvalidIdError, InvalidParameterError
        An id or a round that cannot name a file.

    Examples
    --------
    >>> object_path(Key("demo", Kind.UPDATE, 7, "../x"))
    'job=demo/round=00000007/update/client=..%2Fx.safetensors'
    """
    if key.kind is Kind.METADATA:
        return metadata_path(key.job, key.round)
    if key.kind is Kind.AGGREGATE:
        return aggregate_path(key.job, key.round)
    folder = round_path(key.job, key.round)
    return f"{folder}/update/client={encode_id('client', key.client)}.safetensors"  # type: ignore[arg-type]


def parse_path(path: str) -> Key | None:
    """The key that has this relative path, or None for a file that is not of this layout.

    Parameters
    ----------
    path : str
        Relative to the root.
    """
    match = _FILE.fullmatch(path)
    if match is None:
        return None
    job, round, client, other = match.groups()
    kind = Kind.UPDATE if client else Kind.AGGREGATE if other.startswith("aggregate") else Kind.METADATA
    key = Key(unquote(job), kind, int(round), unquote(client) if client else None)
    # What decodes but is not what we would have written belongs to somebody else.
    try:
        paths = [object_path(key)]
        if kind is Kind.METADATA:
            paths.append(old_metadata_path(key.job, key.round))
        return key if path in paths else None
    except InvalidIdError:
        return None


def parse_job(name: str) -> str | None:
    """The job that has this folder name, or None."""
    job = unquote(name.removeprefix("job="))
    try:
        return job if job_path(job) == name else None
    except InvalidIdError:
        return None


def parse_round(name: str) -> int | None:
    """The round that has this folder name, or None."""
    match = _ROUND.fullmatch(name)
    return int(match.group(1)) if match else None


def is_temporary(path: str) -> bool:
    """Whether this relative path is the hidden name of a file that a writer has not finished."""
    return _TEMPORARY.fullmatch(path) is not None


def writer_name(what: str) -> str:
    """Name of a hidden file about a job's writer: its ``lock``, ``guard``, ``new`` lock or ``lease``."""
    return f".writer.{what}"


def writer_path(job: str, what: str) -> str:
    """Where :func:`writer_name` lies: beside the rounds, where no listing looks."""
    return f"{job_path(job)}/{writer_name(what)}"


def is_of_writer(path: str) -> bool:
    """Whether this relative path is one of the hidden files about a job's writer."""
    return _WRITER.fullmatch(path) is not None
