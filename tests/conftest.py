"""Tests run in a process a core: linear algebra in more threads would only make these wait."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
