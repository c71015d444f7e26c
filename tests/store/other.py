"""Another Python process that does what it is told, line by line: a second writer, or a reader."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]

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
        self.process = subprocess.Popen(
            [sys.executable, "-W", "always", "-c", _SERVE], cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True
        )

    def start(self, code: str) -> None:
        """Have it run code, without waiting."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def finish(self) -> Any:
        """What the code that was started assigned to ``answer``."""
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
        """As ``kill -9`` does."""
        self.process.kill()
        self.process.wait(20)

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def opened(root: str, **options: Any) -> str:
    """Code that opens a store there."""
    options = {"functions": 1, "memory": "64MiB", "root": root, **options}
    return f"from flstore import FLStore\nstore = FLStore.local(**{options!r})"


FILL = "from tests.store.conftest import fill, make_round\nfill(store, range({}, {}))"
