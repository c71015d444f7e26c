"""The client of an NVIDIA FLARE job that trains nothing: it adds one number of its own to every weight."""

import sys

import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

if __name__ == "__main__":
    flare.init()
    step = float(flare.get_site_name().removeprefix("site-"))
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        if "diff" in sys.argv:
            sent, kind = {name: 0 * array + step for name, array in received.params.items()}, ParamsType.DIFF
        else:
            sent, kind = {name: array + step for name, array in received.params.items()}, ParamsType.FULL
        metrics = {"loss": step / (1 + received.current_round)}
        meta = {"NUM_STEPS_CURRENT_ROUND": 7, "lr": 0.1}
        flare.send(FLModel(params=sent, params_type=kind, metrics=metrics, meta=meta))
