"""``python -m service`` and the console command ``gatekey``."""

from __future__ import annotations

from service.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
