"""Waiting in a test for what needs no time, only turns of its event loop."""

from __future__ import annotations

import asyncio


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)
