"""Run the command as `python -m mellea`."""

import sys

from mellea.cli import main

sys.exit(main())
