"""The composition root: the only module that builds things, and the Flask application made of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backends.factory import create_store
from service import __version__
from service.answers.next_url import NextUrls
from service.answers.responder import Responder
from service.answers.tickets import Tickets
from service.auth.authenticator import Authenticator
from service.auth.cache import KeyCache
from service.auth.clock import SystemClock
from service.doors.doors import Doors
from service.doors.peers import TrustedProxies
from service.lifecycle import Lifecycle
from service.observe.decision_log import DecisionLog
from service.observe.logs import configure_logging
from service.observe.metrics import Metrics
from service.observe.observer import Observer
from service.observe.store import ObservedStore
from service.policies import PolicyBook
from service.portal import Portal
from service.runtime import Gatekey
from service.settings import load_settings
from service.web.flask_app import make_flask_app

if TYPE_CHECKING:
    from flask import Flask

    from backends.contract import KeyStore
    from service.auth.clock import Clock
    from service.auth.keyfile import Seed
    from service.settings import Settings

__all__ = ["build", "create_app"]


def build(
    settings: Settings,
    *,
    seed: Seed | None = None,
    store: KeyStore | None = None,
    clock: Clock | None = None,
) -> Gatekey:
    """Make the parts of one process from its settings; nothing is started and no connection is made.

    ``store`` and ``clock`` are for tests and for embedding; by default the store is made from ``settings.store_url``.
    """
    clock = clock or SystemClock()
    inner = store or create_store(settings.store_url.reveal())
    metrics = Metrics(store=inner.name, version=__version__, store_timeout=settings.store_timeout)
    log = DecisionLog(clock=clock, metrics=metrics)
    observed = ObservedStore(inner, metrics)
    cache = KeyCache(
        observed,
        clock=clock,
        metrics=metrics,
        ttl=settings.cache_ttl,
        negative_ttl=settings.cache_negative_ttl,
        max_entries=settings.cache_max_entries,
        stale_if_error=settings.cache_stale_if_error,
    )
    raise NotImplementedError
