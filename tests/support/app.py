"""Gatekey inside the test's process: built as in production, on the memory store, with a clock that stands still."""

from __future__ import annotations

import os
import tomllib
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.app import build, create_app
from service.auth.keyfile import read_key_lines
from service.observe.logs import configure_logging
from service.observe.writer import LineWriter
from service.policies import read_policies
from service.settings import load_settings
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flask import Flask

    from backends.contract import KeyStore
    from service.auth.clock import Clock
    from service.runtime import Gatekey

PEPPER = "pepper-of-the-tests-with-32-bytes-and-more"
SECRET_KEY = "secret-key-of-the-tests"

_NOWHERE = os.open(os.devnull, os.O_WRONLY)
"""Never closed: logging stays configured after a test, and its number must not become that of another test's file."""


@contextmanager
def built_gatekey(
    lines: Iterable[bytes] = (),
    *,
    policies: str = "",
    environ: dict[str, str] | None = None,
    store: KeyStore | None = None,
    clock: Clock | None = None,
    log_fd: int = _NOWHERE,
) -> Iterator[Gatekey]:
    """One process's Gatekey, for whoever starts and stops it on a loop; its log goes nowhere unless told.

    ``lines`` are those of an import file, ``policies`` is TOML with ``[policy.<name>]`` blocks, ``environ`` are settings.
    """
    settings = load_settings({"GATEKEY_PEPPER": PEPPER, "GATEKEY_SECRET_KEY": SECRET_KEY, **(environ or {})})
    found, problems = read_policies(tomllib.loads(policies).get("policy", {}))
    assert not problems
    settings = settings.model_copy(update={"policies": found})
    seed = read_key_lines(lines, peppers=settings.make_peppers(), now=datetime.now(UTC))
    gatekey = build(settings, seed=seed, store=store, clock=clock or FakeClock(), log_fd=log_fd)
    try:
        yield gatekey
    finally:
        gatekey.writer.close()
        configure_logging(LineWriter(_NOWHERE), console=False, level="info")


@contextmanager
def running_gatekey(lines: Iterable[bytes] = (), **options: Any) -> Iterator[Gatekey]:
    """``built_gatekey``, started on a loop of its own and stopped at the end."""
    with built_gatekey(lines, **options) as gatekey:
        try:
            assert gatekey.portal.is_alive(timeout=10)
            yield gatekey
        finally:
            gatekey.portal.stop()


@contextmanager
def running_app(lines: Iterable[bytes] = (), **options: Any) -> Iterator[Flask]:
    """The Flask application around ``running_gatekey``."""
    with running_gatekey(lines, **options) as gatekey:
        yield create_app(gatekey=gatekey)
