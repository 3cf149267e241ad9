"""From a request to a decision. It never raises, and keeps the three laws of an answer.

401 needs evidence (the store answered), 200 needs a verified record, everything else is 503.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import structlog

from backends.errors import StoreCorrupt, StoreUnavailable
from service.auth.decision import Decision, Source
from service.auth.evaluate import evaluate
from service.auth.loads import Overloaded
from service.auth.peppers import SecretMatch, UnknownPepper
from service.auth.reasons import Reason

if TYPE_CHECKING:
    from service.auth.cache import KeyCache
    from service.auth.clock import Clock
    from service.auth.credentials import Credentials
    from service.auth.decision import AccessRequest
    from service.auth.entry import CacheEntry
    from service.auth.loaded import LoadedKey
    from service.auth.peppers import Peppers
    from service.observe.metrics import Metrics

__all__ = ["Authenticator"]

_log = structlog.get_logger(__name__)


class Authenticator:
    """Decides. ``budget`` is the seconds that one request may wait for the store."""

    def __init__(
        self,
        cache: KeyCache,
        *,
        peppers: Peppers,
        clock: Clock,
        metrics: Metrics,
        organization_id: str = "",
        budget: float = 0.25,
    ) -> None:
        self._cache = cache
        self._peppers = peppers
        self._clock = clock
        self._metrics = metrics
        self._organization_id = organization_id
        self._budget = budget

    def decide_cached(self, request: AccessRequest) -> Decision | None:
        """The decision if it needs no store, else ``None``. Any thread; no I/O, no waiting; never raises."""
        try:
            return self._decide_cached(request)
        except Exception as error:  # noqa: BLE001 - whatever breaks here is our fault and must be a 503, never a 200 or a 401
            return _failed(error)

    async def decide(self, request: AccessRequest) -> Decision:
        """The decision, asking the store where the cache does not know. On the loop; never raises but for cancellation."""
        return self.decide_cached(request) or await self.decide_uncached(request)

    async def decide_uncached(self, request: AccessRequest) -> Decision:
        """As ``decide``, after ``decide_cached`` had no decision (it has one for whatever are no credentials)."""
        try:
            return await self._decide_loaded(request, cast("Credentials", request.credentials))
        except Exception as error:  # noqa: BLE001 - as above
            return _failed(error)

    def _decide_cached(self, request: AccessRequest) -> Decision | None:
        credentials = request.credentials
        if isinstance(credentials, Reason):
            return Decision(credentials)
        entry = self._cache.peek(credentials.api_key)
        if entry is None:
            decision = self._decide_stale(request, credentials, self._cache.stale_unanswered(credentials.api_key))
            if decision is None and self._cache.turns_away(credentials.api_key):
                self._metrics.cache_lookup("miss")
                return Decision(Reason.OVERLOADED)
            return decision
        loaded = entry.loaded
        if loaded is None:
            self._peppers.waste(credentials.secret.reveal())
            self._metrics.cache_lookup("negative_hit")
            return Decision(Reason.UNKNOWN_KEY, source=Source.NEGATIVE)
        decision = self._judge(request, credentials, loaded, Source.CACHE)
        if decision.reason is Reason.BAD_SECRET and not self._cache.is_recent(entry):
            return None  # it may have been rotated a moment ago: read again before refusing
        self._metrics.cache_lookup("hit")
        return decision

    async def _decide_loaded(self, request: AccessRequest, credentials: Credentials) -> Decision:
        started = self._clock.age()
        cached = self._cache.peek(credentials.api_key)
        self._metrics.waiting(1)
        try:
            if cached is not None and cached.loaded is not None:
                entry = await self._cache.reread(credentials.api_key, cached, budget=self._budget)
            else:
                entry = await self._cache.load(credentials.api_key, budget=self._budget)
        except (StoreUnavailable, StoreCorrupt, Overloaded) as error:
            decision = self._without_store(request, credentials, error, had_fresh=cached is not None)
        else:
            self._metrics.cache_lookup("miss")
            decision = self._from_store(request, credentials, entry)
        finally:
            self._metrics.waiting(-1)
        decision.store_seconds = self._clock.age() - started
        return decision

    def _from_store(self, request: AccessRequest, credentials: Credentials, entry: CacheEntry) -> Decision:
        if entry.loaded is None:
            self._peppers.waste(credentials.secret.reveal())
            return Decision(Reason.UNKNOWN_KEY, source=Source.STORE)
        decision = self._judge(request, credentials, entry.loaded, Source.STORE)
        if decision.reason is Reason.BAD_SECRET and not self._cache.is_recent(entry):
            return Decision(Reason.STORE_UNAVAILABLE)  # so slow that the secret may have been rotated meanwhile
        return decision

    def _without_store(
        self, request: AccessRequest, credentials: Credentials, error: Exception, *, had_fresh: bool
    ) -> Decision:
        """No answer from the store: a record past its time may still allow, and nothing may be refused.

        Where it was not even asked because it is overloaded, it may well be answering: then the announcements must come.
        """
        unanswered = isinstance(error, StoreUnavailable) or (isinstance(error, Overloaded) and self._cache.link_is_up())
        if unanswered and not had_fresh:
            decision = self._decide_stale(request, credentials, self._cache.stale(credentials.api_key))
            if decision is not None:
                return decision
        self._metrics.cache_lookup("miss")
        if isinstance(error, Overloaded):
            return Decision(Reason.OVERLOADED)
        return Decision(Reason.STORE_CORRUPT if isinstance(error, StoreCorrupt) else Reason.STORE_UNAVAILABLE)

    def _decide_stale(
        self, request: AccessRequest, credentials: Credentials, loaded: LoadedKey | None
    ) -> Decision | None:
        """What a record past its time allows; it refuses nothing."""
        if loaded is None:
            return None
        decision = self._judge(request, credentials, loaded, Source.STALE)
        if not decision.allowed:
            return None
        self._metrics.cache_lookup("stale")
        return decision

    def _judge(self, request: AccessRequest, credentials: Credentials, loaded: LoadedKey, source: Source) -> Decision:
        """What the rules say of this key; where its secret cannot be checked by this installation, that."""
        wall = self._clock.wall()
        try:
            match = self._peppers.match(credentials.secret.reveal(), loaded, loaded.previous_secret(wall))
        except UnknownPepper:
            if not loaded.terms.is_revoked:
                return Decision(Reason.STORE_CORRUPT, source=source, key=loaded)
            match = SecretMatch.NONE  # revoked for good: nothing of it has to be checked any more
            self._peppers.waste(credentials.secret.reveal())
        reason = evaluate(
            request,
            loaded,
            secret_matches=match is not SecretMatch.NONE,
            only_organization=self._organization_id,
            wall=wall,
        )
        return Decision(reason, source=source, key=loaded, used_previous=match is SecretMatch.PREVIOUS)


def _failed(error: Exception) -> Decision:
    """A defect of ours: 503 outside; the log gets the type only, a message could hold what was presented."""
    _log.error("decision_failed", error_type=type(error).__name__, exc_info=False)
    return Decision(Reason.INTERNAL)
