"""The sample job in a store."""

from __future__ import annotations

from flstore import FLStore
from flstore.testing.sample_job import SampleJob
from flstore.types import Kind


def fill(store: FLStore, job: SampleJob) -> None:
    """Ingest all of a job: its initial model, then updates, aggregate and metadata of each round."""
    for round in (0, *job.rounds()):
        objects = {key: job.read(key) for key in job.buffers if key.round == round}
        of = {kind: {str(k.client): value for k, value in objects.items() if k.kind is kind} for kind in Kind}
        aggregate = next(iter(of[Kind.AGGREGATE].values()), None)
        store.ingest(round, of[Kind.UPDATE], aggregate=aggregate, metadata=of[Kind.METADATA]).wait()
