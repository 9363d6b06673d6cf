"""``python -m neural_vb`` is ``neural-vb``."""

from __future__ import annotations

import sys

from neural_vb.cli import main

if __name__ == "__main__":
    sys.exit(main())
