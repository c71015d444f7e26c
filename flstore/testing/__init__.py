"""What tests of FLStore, and of what others add to it, are made of: contract suites, faults, servers on loopback.

Contracts. One test function checks a policy, a workload or a persistent store of your own against everything that
FLStore relies on; an ``AssertionError`` says which promise was broken, and where.

>>> from flstore.testing.policies import check_policy
>>> from flstore.policies import P2
>>> check_policy(lambda: P2(window=3))

>>> from flstore.testing.workloads import check_workload
>>> from flstore.workloads.clustering import Clustering
>>> check_workload(lambda: Clustering(k=2))

>>> import uuid
>>> from flstore.testing.stores import check_objects
>>> check_objects(lambda: f"memory://{uuid.uuid4().hex}")

A workload that reads what the built-in sample does not have brings a job of its own:

>>> import numpy as np
>>> from flstore.testing.sample_job import SampleJob
>>> job = SampleJob("mine")
>>> job.add(1, {name: {"w": np.full(3, i, np.float32)} for i, name in enumerate("abc")})
>>> check_workload(lambda: Clustering(k=2), scopes=[{"round": 1}], job=job)

Faults of processes and files are real ones, on a store that runs (``flstore.testing.faults``):

>>> import tempfile
>>> from flstore import FLStore
>>> from flstore.testing import faults
>>> updates = {str(i): {"w": np.full(3, i, np.float32)} for i in range(3)}
>>> with tempfile.TemporaryDirectory() as root, FLStore.local(functions=2, root=root, memory="64MiB") as store:
...     store.ingest(1, updates).wait()
...     faults.kill(store, "function-0")
...     with faults.hang(store, "function-1"):
...         pass
...     store.request("cosine_similarity", round=1).value.similarity.shape
(3, 3)

Trouble of the persistent store is staged (``flstore.testing.faulty_fs``), for the process that ingests and for the
functions alike:

>>> from flstore.testing.faulty_fs import Fault, FaultPlan
>>> with tempfile.TemporaryDirectory() as root:
...     plan = FaultPlan(f"{root}/plan")
...     options = {"root": plan.url(f"{root}/data"), "storage_options": plan.storage_options}
...     with FLStore.local(functions=1, memory="64MiB", **options) as store:
...         with plan.stage(Fault("fail", "write", times=2, match="*client=*")):
...             store.ingest(1, updates).wait()  # tried again, and stored
...         with plan.stage(Fault("stall", "read", delay_s=0.1)):
...             store.request("cosine_similarity", round=1).record.status
...     [strike.kind for strike in plan.strikes()[:2]]
'done'
['fail', 'fail']

The process that trains is killed from another one (``flstore.testing.other``):

>>> from flstore.testing.other import Other
>>> with tempfile.TemporaryDirectory() as root:
...     with Other() as trainer:
...         trainer.do("import numpy as np; from flstore import FLStore")
...         trainer.do(f"store = FLStore.local(functions=1, memory='64MiB', root={root!r})")
...         trainer.do("store.ingest(1, {'a': {'w': np.ones(3)}}).wait()")
...         trainer.kill()
...     with FLStore.local(functions=1, memory="64MiB", root=root) as store:
...         store.clients(1)
['a']

A Dask cluster as others run it, with a scheduler that can be killed and comes back, is in ``flstore.testing.clusters``:
``with dask_cluster(workers=2) as cluster: FLStore.connect(cluster.address, security=cluster.security, ...)``, then
``cluster.kill("scheduler")``. S3 servers on loopback, and Redis, are in ``flstore.testing.services``.

All of this at once, by chance and with a seed, is ``python -m flstore.testing.faults.run --faults 1000``: it compares
each answer with the one that follows from the original arrays, and says what was lost, wrong or refused.
"""
