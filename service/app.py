"""The composition root: the only module that builds things, and the Flask application made of them."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backends.factory import certificate_files, create_store
from backends.guard import GuardedStore
from service import __version__
from service.answers.next_url import NextUrls
from service.answers.responder import Responder
from service.answers.tickets import Tickets
from service.auth.authenticator import Authenticator
from service.auth.cache import UNHEARD_OF, KeyCache
from service.auth.clock import SystemClock
from service.auth.keyfile import read_key_lines
from service.doors.doors import Doors
from service.doors.peers import TrustedProxies
from service.lifecycle import Lifecycle
from service.manage.audit import AuditTrail
from service.manage.background import Background
from service.manage.manager import KeyManager
from service.manage.retention import Retention
from service.manage.upkeep import SecretUpkeep
from service.manage.usage import UsageRecorder
from service.observe.certificates import ends_of
from service.observe.decision_log import DecisionLog
from service.observe.logs import configure_logging
from service.observe.metrics import Metrics
from service.observe.observer import Observer
from service.observe.store import ObservedStore
from service.observe.writer import LineWriter
from service.policies import PolicyBook
from service.runtime import Gatekey
from service.settings import load_settings
from service.web.flask_app import make_flask_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from flask import Flask

    from backends.contract import KeyStore
    from service.auth.clock import Clock
    from service.auth.keyfile import Seed
    from service.auth.peppers import Peppers
    from service.observe.tracing import Tracing
    from service.settings import Settings

__all__ = ["Management", "build", "create_app", "management"]

_PATIENCE: Final = 2.0  # seconds that a look-up may take, longer than anybody waits: its late answer fills the cache


def build(
    settings: Settings,
    *,
    seed: Seed | None = None,
    store: KeyStore | None = None,
    clock: Clock | None = None,
    log_fd: int = 1,
) -> Gatekey:
    """Make the parts of one process from its settings; nothing is started and no connection is made.

    ``seed`` is stored when the process starts; ``store`` and ``clock`` replace the configured ones (for embedding and
    tests). Raises ``UnknownScheme`` or ``ValueError`` where the store's URL is wrong.
    """
    clock = clock or SystemClock()
    inner = store or _store_of(settings)
    peppers = settings.make_peppers()
    secret_key = settings.secret_key
    if secret_key is None:
        raise ValueError("settings that were not loaded by load_settings need a secret_key")
    find_timeout = max(_PATIENCE, 2 * settings.store_timeout)
    metrics = Metrics(
        store=inner.name,
        version=__version__,
        revision=os.environ.get("SOURCE_REVISION", ""),
        store_timeout=settings.store_timeout,
        find_timeout=find_timeout,
        certificates=ends_of(_certificates(settings)),
    )
    writer = LineWriter(log_fd, metrics=metrics, clock=clock, summarize=settings.log_summarize)
    metrics.watch_log(lambda: float(len(writer)))
    console = settings.log_format == "console"
    configure_logging(writer, console=console, level=settings.log_level)
    decision_log = DecisionLog(
        writer, clock=clock, peppers=peppers, console=console, color=console and sys.stdout.isatty()
    )
    guarded = GuardedStore(inner, find_timeout=find_timeout)
    metrics.watch_pool(lambda: inner.connections)
    metrics.watch_breaker(lambda: float(guarded.breaker_state))
    policies = PolicyBook(settings.policies)
    tracing = _tracing(metrics, clock, policies) if settings.traces else None
    observed = ObservedStore(guarded, metrics, tracing=tracing)
    cache = KeyCache(
        observed,
        clock=clock,
        metrics=metrics,
        ttl=settings.cache_ttl,
        negative_ttl=settings.cache_negative_ttl,
        max_entries=settings.cache_max_entries,
        stale_if_error=settings.cache_stale_if_error,
    )
    metrics.watch_cache(lambda: float(len(cache)), settings.cache_max_entries, cache.link_is_up)
    authenticator = (Authenticator if tracing is None else tracing.authenticator)(
        cache,
        peppers=peppers,
        clock=clock,
        metrics=metrics,
        organization_id=settings.organization_id,
        budget=settings.store_timeout,
    )
    audit = AuditTrail(observed.journal, clock=clock)
    background = Background(
        usage=UsageRecorder(observed.journal, clock=clock),
        upkeep=SecretUpkeep(observed, peppers=peppers, clock=clock),
        audit=audit,
        retention=Retention(
            observed.journal, clock=clock, usage_days=settings.usage_retention, audit_days=settings.audit_retention
        ),
        clock=clock,
    )
    observer = Observer(metrics, decision_log, clock=clock, on_use=background.used, tracing=tracing)
    proxies = TrustedProxies(settings.trusted_proxies)
    next_urls = NextUrls(
        secret_key,
        hosts=settings.login_next_hosts,
        public_url=settings.public_url,
        login_url=settings.login_url,
        clock=clock,
    )
    responder = Responder()
    doors = Doors(
        settings=settings,
        policies=policies,
        authenticator=authenticator,
        observer=observer,
        metrics=metrics,
        proxies=proxies,
        responder=responder,
        tickets=Tickets(secret_key, clock=clock),
        next_urls=next_urls,
        clock=clock,
    )
    return Gatekey(
        settings=settings,
        clock=clock,
        metrics=metrics,
        writer=writer,
        observer=observer,
        store=observed,
        cache=cache,
        authenticator=authenticator,
        manager=_manager(settings, observed, peppers, clock, audit, count=metrics.key_event),
        background=background,
        policies=policies,
        proxies=proxies,
        next_urls=next_urls,
        responder=responder,
        doors=doors,
        lifecycle=Lifecycle(),
        seed=seed,
    )


def _certificates(settings: Settings) -> Mapping[str, Path | None]:
    """The files of certificates that the settings name, by ``families.CERTIFICATES``."""
    files = certificate_files(settings.store_url.reveal())
    return {"server": settings.tls_cert, "client_ca": settings.tls_client_ca, **files}


def _tracing(metrics: Metrics, clock: Clock, policies: PolicyBook) -> Tracing:
    """Imported only where it is wanted: it needs the extra ``otel``, and costs every process its memory."""
    from service.observe.trace_export import TraceExport
    from service.observe.tracing import Tracing

    return Tracing(
        TraceExport(__version__, count_lost=metrics.spans_lost),
        metrics=metrics,
        clock=clock,
        is_policy=lambda name: policies.find(name) is not None,
    )


def _store_of(settings: Settings) -> KeyStore:
    listen_url = settings.store_listen_url
    return create_store(settings.store_url.reveal(), listen_url=None if listen_url is None else listen_url.reveal())


def _manager(
    settings: Settings,
    store: KeyStore,
    peppers: Peppers,
    clock: Clock,
    audit: AuditTrail,
    *,
    count: Callable[[str, int], None] | None = None,
) -> KeyManager:
    bound = max(UNHEARD_OF, settings.cache_stale_if_error)
    return KeyManager(store, peppers=peppers, clock=clock, audit=audit, count=count, bound=bound)


@dataclass(frozen=True, slots=True)
class Management:
    """What a command needs to work on the store itself, without a service."""

    store: KeyStore
    manager: KeyManager
    peppers: Peppers
    clock: Clock


@asynccontextmanager
async def management(settings: Settings, *, opened: bool = True) -> AsyncIterator[Management]:
    """The store for a command, ``opened`` or as it is made (to prepare it), closed at the end.

    Raises what ``build`` raises, and the store's errors come through. Where the store took a change but not its entry in
    the audit trail, the log says so with the whole entry.
    """
    store, peppers, clock = _store_of(settings), settings.make_peppers(), SystemClock()
    audit = AuditTrail(store.journal, clock=clock)
    if opened:
        await store.open()
    try:
        yield Management(store, _manager(settings, store, peppers, clock, audit), peppers, clock)
    finally:
        if audit.kept:
            await audit.flush()
            audit.abandon()
        await store.close()


def create_app(
    settings: Settings | None = None,
    *,
    import_file: str | Path | None = None,
    gatekey: Gatekey | None = None,
) -> Flask:
    """The Flask application, for any WSGI server and for programs that add views of their own.

    ``settings`` default to those of the environment; ``import_file`` names a file of keys (JSON lines) to begin with, as
    ``gatekey serve --import`` does. The event loop, the store and the background tasks start with the first request that
    needs them, in the process that serves it, and stop when that process ends. Raises ``SettingsError``, and
    ``KeyFileError`` or ``OSError`` where the import file cannot be used.
    """
    if gatekey is None:
        settings = settings or load_settings()
        seed = None
        if import_file is not None:
            with Path(import_file).open("rb") as lines:
                seed = read_key_lines(lines, peppers=settings.make_peppers(), now=datetime.now(UTC))
        gatekey = build(settings, seed=seed)
    return make_flask_app(gatekey)
