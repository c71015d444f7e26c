"""What all tests share: no window is opened, nothing is sent home, no example fails for being slow."""

import os
import tempfile

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
# Connection files go where nobody looks for them; the folder goes with the process.
_runtime = tempfile.TemporaryDirectory(prefix="flstore-test-")
os.environ["FLSTORE_RUNTIME"] = _runtime.name

settings.register_profile("flstore", deadline=None, print_blob=True)
settings.load_profile("flstore")
