"""Make Swift's three rings: ``_swift_rings.py <folder> <ports as JSON>``. A program of its own, run by path."""

import json
import sys

from swift.common.ring import RingBuilder


def main(folder: str, ports: dict[str, int]) -> None:
    """Write ``<role>.ring.gz`` with the one device for each storage role."""
    for role in ("account", "container", "object"):
        builder = RingBuilder(4, 1, 1)
        address = {
            "ip": "127.0.0.1",
            "port": ports[role],
            "replication_ip": "127.0.0.1",
            "replication_port": ports[role],
        }
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "device": "d1", "weight": 1.0, "meta": "", **address})
        builder.rebalance()
        builder.get_ring().save(f"{folder}/{role}.ring.gz")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
