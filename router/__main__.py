"""`python -m router`: the command without its installed script."""

from __future__ import annotations

from router.cli import main

if __name__ == "__main__":
    main()
