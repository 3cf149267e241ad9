"""In what the five proxies differ, with the shipped configurations: asserted by the proxy tests, and told in docs/proxies.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FACTS", "ProxyFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyFacts:
    """One proxy. The defaults are what most of them do."""

    down: int = 503
    """Status for the client when nobody listens where Gatekey should."""

    silent: int = 503
    """Status when Gatekey takes the question and never answers, after ``waits`` seconds."""

    waits: int = 2
    own_problem: bool = True
    """In both cases the answer is JSON of Gatekey's form, not the proxy's own page or nothing."""

    rewords_503: bool = False
    """Gatekey's own 503 keeps its status, but its text is replaced by that JSON."""

    other_success: bool = False
    """An answer of 2xx other than 200 lets the request through (Gatekey never gives one)."""

    other_host: int = 421
    """Status for a host that the configuration does not serve."""

    normalizes_path: bool = False
    """Dot segments and double slashes are resolved first, for the decision and the application alike."""

    drops_named_headers: bool = False
    """A header that the client names in Connection does not count: without its key the request is refused."""

    tells_all: bool = False
    """Gatekey gets all headers of the client, not only those it reads."""

    tells_websocket: bool = True
    """Gatekey learns that the client wants a websocket."""

    unknown_identity: bool = False
    """A client's X-Gatekey header of a name that Gatekey does not have reaches the application."""


FACTS: Final = {
    "caddy": ProxyFacts(down=502, silent=504, own_problem=False, other_success=True, tells_all=True),
    "envoy": ProxyFacts(rewords_503=True, other_host=404, normalizes_path=True, drops_named_headers=True),
    "haproxy": ProxyFacts(),
    "nginx": ProxyFacts(other_success=True, tells_all=True, unknown_identity=True),
    "traefik": ProxyFacts(
        down=500,
        silent=500,
        waits=30,
        own_problem=False,
        other_success=True,
        other_host=404,
        normalizes_path=True,
        drops_named_headers=True,
        tells_websocket=False,
    ),
}
