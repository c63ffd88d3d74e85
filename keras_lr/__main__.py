"""Entry point of the command line: ``python -m keras_lr``."""

import sys

from keras_lr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
