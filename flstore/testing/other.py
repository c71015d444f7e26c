"""Another Python process that does what it is told, line by line: a trainer to be killed, a second writer, a reader.

>>> with Other() as trainer:
...     trainer.do("import os; answer = os.getpid()") == trainer.process.pid
True
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

_SERVE = """
import json, sys
said, sys.stdout = sys.stdout, sys.stderr
space = {}
for line in sys.stdin:
    try:
        exec(json.loads(line), space)
        answer = ["", space.pop("answer", None)]
    except BaseException as error:
        answer = [type(error).__name__, str(error)]
    print(json.dumps(answer), file=said, flush=True)
"""


class OtherError(Exception):
    """What another process raised; begins with the name of its class."""


class Other(contextlib.AbstractContextManager["Other"]):
    """A process of its own; killed at the end of its context."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "always", "-c", _SERVE], stdin=pipe, stdout=pipe, text=True,
            env={**os.environ, **paths},
        )  # fmt: skip

    def start(self, code: str) -> None:
        """Have it run Python code, without waiting; names that it assigns stay for the next call."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def finish(self) -> Any:
        """What the code that was started assigned to ``answer`` (a JSON value).

        Raises
        ------
        OtherError
            The code raised.
        """
        assert self.process.stdout is not None
        error, answer = json.loads(self.process.stdout.readline())
        if error:
            raise OtherError(f"{error}: {answer}")
        return answer

    def do(self, code: str) -> Any:
        """Have it run code, and wait."""
        self.start(code)
        return self.finish()

    def kill(self) -> None:
        """SIGKILL it, and wait until it is gone."""
        self.process.kill()
        self.process.wait(20)

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
