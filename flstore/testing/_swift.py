"""Configuration of a small OpenStack Swift: one machine, one device, one replica, S3 requests with one user."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from configparser import RawConfigParser
from pathlib import Path

ROLES = ("account", "container", "object", "proxy")

# Outermost first. s3api turns S3 requests into Swift's; slo is what it makes multipart uploads of.
_PIPELINE = "catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth copy slo dlo proxy-server"


def write_configuration(root: Path, ports: Mapping[str, int], key: str, secret: str) -> Path:
    """Write one file a role, readable by this user alone; returns their folder."""
    etc = root / "etc"
    for folder in (etc, root / "devices" / "d1", root / "cache"):
        folder.mkdir(parents=True, exist_ok=True)
    files = {"swift": _common(), "proxy": _proxy(root, ports["proxy"], key, secret)}
    for role in ROLES[:-1]:
        files[role] = _storage(root, role, ports[role])
    for name, sections in files.items():
        parser = RawConfigParser(default_section="")
        parser.read_dict(sections)
        with open(os.open(etc / f"{name}.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            parser.write(file)
    return etc


def _common() -> dict[str, dict[str, str]]:
    return {
        "swift-hash": {"swift_hash_path_prefix": "flstore", "swift_hash_path_suffix": "flstore"},
        "storage-policy:0": {"name": "single", "default": "yes"},
        "swift-constraints": {"max_header_size": "16384"},
    }


def _defaults(root: Path, port: int) -> dict[str, str]:
    return {
        "bind_ip": "127.0.0.1",
        "bind_port": str(port),
        "user": getpass.getuser(),
        "swift_dir": str(root / "etc"),
        "devices": str(root / "devices"),
        "mount_check": "false",
        # No forked workers: one process a role, so that ending it ends all.
        "workers": "0",
        "log_level": "WARNING",
        "disable_fallocate": "true",
    }


def _storage(root: Path, role: str, port: int) -> dict[str, dict[str, str]]:
    return {
        "DEFAULT": _defaults(root, port),
        "pipeline:main": {"pipeline": f"{role}-server"},
        f"app:{role}-server": {"use": f"egg:swift#{role}", "recon_cache_path": str(root / "cache")},
    }


def _proxy(root: Path, port: int, key: str, secret: str) -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = {
        "s3api": {"s3_acl": "false", "location": "us-east-1", "check_bucket_owner": "false"},
        "tempauth": {f"user_{key.replace(':', '_')}": f"{secret} .admin"},
        # Nothing listens there; Swift goes on without memcached.
        "cache": {"memcache_servers": "127.0.0.1:1"},
    }
    sections = {"DEFAULT": _defaults(root, port), "pipeline:main": {"pipeline": _PIPELINE}}
    for name in _PIPELINE.split()[:-1]:
        egg = "memcache" if name == "cache" else name
        sections[f"filter:{name}"] = {"use": f"egg:swift#{egg}", **settings.get(name, {})}
    sections["app:proxy-server"] = {
        "use": "egg:swift#proxy",
        "account_autocreate": "true",
        "allow_account_management": "true",
    }
    return sections
