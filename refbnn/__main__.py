"""`python -m refbnn` is `refbnn`."""

import sys

from refbnn.cli import main

sys.exit(main())
