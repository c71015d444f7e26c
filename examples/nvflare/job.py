"""A job of NVIDIA FLARE: federated averaging of a softmax regression on digits, in FLARE's simulator."""

import sys

import numpy as np
from nvflare.app_common.np.np_model_persistor import NPModelPersistor
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.client.config import ExchangeFormat
from nvflare.job_config.api import FedJob
from nvflare.job_config.script_runner import FrameworkType, ScriptRunner

SITES, ROUNDS = 2, 2

job = FedJob(name="digits", min_clients=SITES)
job.to_server(NPModelPersistor(model=np.zeros((10, 65)).tolist()), id="persistor")
job.to_server(FedAvg(num_clients=SITES, num_rounds=ROUNDS))
job.to_clients(ScriptRunner("client.py", framework=FrameworkType.RAW, server_expected_format=ExchangeFormat.NUMPY))
sys.exit(job.simulator_run("workspace", n_clients=SITES, threads=1))
