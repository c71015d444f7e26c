"""``python -m flstore``: the same as the command ``flstore``."""

import sys

from flstore.cli import main

sys.exit(main())
