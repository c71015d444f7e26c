"""What FLStore is compared with: the same requests and workload code, another path of the data."""

from flstore.baselines.cacheagg import CacheAgg
from flstore.baselines.localfiles import LocalFiles
from flstore.baselines.objstore import ObjStoreAgg

__all__ = ["CacheAgg", "LocalFiles", "ObjStoreAgg"]
