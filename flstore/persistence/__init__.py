"""The persistent store: whole objects under one root on a file system, in memory or in an S3 bucket."""

from flstore.persistence.layout import aggregate_path, metadata_path, object_path, parse_path
from flstore.persistence.objects import ObjectStore
from flstore.persistence.removal import Removed, remove
from flstore.persistence.verify import Damage, Verification, verify
from flstore.persistence.writer import Writer

__all__ = [
    "Damage",
    "ObjectStore",
    "Removed",
    "Verification",
    "Writer",
    "aggregate_path",
    "metadata_path",
    "object_path",
    "parse_path",
    "remove",
    "verify",
]
