"""Table 1 of the paper: which class of access pattern a workload has.

The paper names debugging under P3 in Table 1 and under P2 in sections 4.4 and 5.5; here it is P2, because it reads all
updates of one round. Scheduling by performance is P2 when it ranks clients by accuracy (what Figure 7 measures).
"""

from __future__ import annotations

from flstore.types import PolicyClass

CLASS_OF: dict[str, PolicyClass] = {
    "inference": PolicyClass.P1,
    "personalization": PolicyClass.P2,
    "clustering": PolicyClass.P2,
    "debugging": PolicyClass.P2,
    "malicious_filtering": PolicyClass.P2,
    "incentives": PolicyClass.P2,
    "scheduling_similarity": PolicyClass.P2,
    "scheduling_performance": PolicyClass.P2,
    "contribution": PolicyClass.P2,
    "cosine_similarity": PolicyClass.P2,
    "aggregation": PolicyClass.P2,
    "lineage": PolicyClass.P3,
    "hyperparameters": PolicyClass.P4,
}
