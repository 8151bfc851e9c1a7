"""Run the command as `python -m mellea.cli`."""

import sys

from mellea.cli.command import main

sys.exit(main())
