"""`python -m cerebro_nb` is the command `cerebro`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
