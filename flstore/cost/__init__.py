"""What requests would take and cost in the cloud: measured work and counted bytes, put through named links and prices.

Everything here is modelled, and says so; what was measured is in ``store.requests``.

>>> import pandas as pd
>>> asked = pd.DataFrame({"bytes_moved": [8e8], "operations": [10], "compute_s": [0.2]})  # or store.requests
>>> priced = pd.concat([price(asked, system=name) for name in ("ObjStore-Agg", "Cache-Agg")])
>>> found = summary(priced, hours=1, scale=Scale(stored_bytes=8e11))
>>> found.frame()["modelled_idle_usd"].round(2).tolist()  # the objects; the objects and a cluster that holds them all
[0.02, 15.62]
"""

from flstore.cost.idle import HOURS_PER_MONTH, cluster, idle, keep_alive_usd_per_hour
from flstore.cost.model import PARTS, price
from flstore.cost.report import Summary, figure, summary
from flstore.cost.scale import SYSTEMS, Billing, Scale
from flstore.cost.sheets import GIB, Link, Links, Price, Prices, load_links, load_prices

__all__ = [
    "GIB",
    "HOURS_PER_MONTH",
    "PARTS",
    "SYSTEMS",
    "Billing",
    "Link",
    "Links",
    "Price",
    "Prices",
    "Scale",
    "Summary",
    "cluster",
    "figure",
    "idle",
    "keep_alive_usd_per_hour",
    "load_links",
    "load_prices",
    "price",
    "summary",
]
