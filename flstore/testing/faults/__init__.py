"""Real faults on a living store: killed, hung and slow functions, cut connections, damaged files.

What strikes a process takes a store and the name of one of its functions; what strikes a file takes a root on this
machine and a key. Whatever is a context manager ends with its block, also when the block raises.

>>> import tempfile
>>> from flstore import FLStore
>>> with tempfile.TemporaryDirectory() as root, FLStore.local(functions=1, root=root, memory="64MiB") as store:
...     before = functions(store)
...     after = restart(store, "function-0")
>>> list(before), before["function-0"] != after
(['function-0'], True)
"""

from flstore.testing.faults.chance import KINDS, RandomFault, random_faults
from flstore.testing.faults.files import corrupt, lose, tear
from flstore.testing.faults.processes import await_function, functions, hang, kill, restart, sever, slow

__all__ = [
    "KINDS", "RandomFault", "await_function", "corrupt", "functions", "hang", "kill", "lose", "random_faults",
    "restart", "sever", "slow", "tear",
]  # fmt: skip
