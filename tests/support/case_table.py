"""The one table of cases that goes through every door: credentials, key states, domains, policies, contexts, clients."""

from __future__ import annotations

import base64
from typing import Any

from tests.support.cases import (
    APP_ORIGIN,
    OWN_KEY,
    OWN_SECRET,
    WRONG_SECRET,
    Case,
    Lines,
    basic,
    bearer,
    five,
    pair,
    with_checksum,
)
from tests.support.keys import DOMAIN, SECRET


def _case(name: str, reason: str, credentials: Lines = (), **fields: Any) -> Case:
    return Case(name=name, reason=reason, credentials=credentials, **fields)


def _forms() -> list[Case]:
    return [
        _case("two headers", "ok", pair()),
        _case("basic", "ok", basic()),
        _case("bearer", "ok", bearer()),
        _case("basic in capitals", "ok", basic(scheme="BASIC")),
        _case("bearer in lower case", "ok", bearer(scheme="bearer")),
        _case("header names in capitals", "ok", (("X-API-KEY", "plain"), ("X-SECRET-TOKEN", SECRET))),
        _case("the same pair in headers and basic", "ok", pair() + basic()),
        _case("the same pair in headers and bearer", "ok", pair() + bearer()),
        _case("a key of our own format", "ok", pair(OWN_KEY, OWN_SECRET)),
        _case("a key of our own format as bearer", "ok", bearer(OWN_KEY, OWN_SECRET)),
        _case("a key with a dot in headers", "ok", pair("dotted.key")),
        _case("a key with a colon in headers", "ok", pair("with:colon")),
        _case("a key with a dot as basic", "ok", basic("dotted.key")),
        _case("a key with a colon as bearer", "ok", bearer("with:colon")),
        _case("a key with a name outside ASCII", "ok", pair("named")),
        _case("the application's own scheme beside the headers", "ok", (*pair(), ("authorization", "Digest a=b"))),
        _case("space around values", "ok", (("x-api-key", " plain "), ("x-secret-token", f"\t{SECRET} "))),
        _case("a post", "ok", pair(), method="POST"),
        _case("a method of its own", "ok", pair(), method="BREW"),
        _case("a method of webdav", "ok", pair(), method="PROPFIND"),
        _case("a method in lower case", "ok", pair(), method="get"),
    ]


def _missing() -> list[Case]:
    missing = "missing_credentials"
    return [
        _case("nothing", missing),
        _case("key without secret", missing, (("x-api-key", "plain"),)),
        _case("secret without key", missing, (("x-secret-token", SECRET),)),
        _case("key without secret, twice", missing, (("x-api-key", "plain"), ("x-api-key", "plain"))),
        _case("empty key without secret", missing, (("x-api-key", ""),)),
        _case("key with a space without secret", missing, (("x-api-key", "pla in"),)),
        _case("key outside ASCII without secret", missing, (("x-api-key", "plän".encode()),)),
        _case("a scheme that is not ours", missing, (("authorization", "Digest username=plain"),)),
        _case("a token without scheme", missing, (("authorization", "plain"),)),
        _case("an empty authorization", missing, (("authorization", ""),)),
        _case("credentials in the query only", missing, uri=f"/orders?x-api-key=plain&x-secret-token={WRONG_SECRET}"),
        _case("a cookie only", missing, extra=(("cookie", "x-api-key=plain"),)),
        _case("forged identity only", missing, extra=(("x-gatekey-key-id", "k"), ("x-gatekey-organization", "acme"))),
    ]


def _malformed() -> list[Case]:
    malformed = "malformed_key"
    defects: dict[str, Lines] = {
        "key twice": (("x-api-key", "plain"), *pair()),
        "secret twice": (*pair(), ("x-secret-token", SECRET)),
        "two keys by comma": pair("plain,plain"),
        "two keys by comma and space": pair("plain, plain"),
        "two secrets by comma": pair("plain", f"{SECRET},{SECRET}"),
        "empty key": pair(""),
        "empty secret": pair("plain", ""),
        "both empty": pair("", ""),
        "blank key": pair("  "),
        "key with a space": pair("pla in"),
        "key with a tab": pair("pla\tin"),
        "secret with a space": pair("plain", "a secret of tests"),
        "key in latin-1": pair(b"pl\xe4in"),
        "key in utf-8": pair("plän".encode()),
        "secret outside ASCII": pair("plain", "geheimnis-ß-der-tests".encode()),
        "key with a direction mark": pair("plain\u202e".encode()),
        "key of 257 characters": pair("k" * 257),
        "key of 8 KiB": pair("k" * 8192),
        "secret of 257 characters": pair("plain", "s" * 257),
        "our prefix without the rest": pair("gk_live_"),
        "our prefix with another environment": pair(with_checksum("gk_prod_" + "A" * 22)),
        "a wrong checksum of the key": pair(OWN_KEY[:-1] + ("0" if OWN_KEY[-1] != "0" else "1"), OWN_SECRET),
        "a wrong checksum of the secret": pair(OWN_KEY, OWN_SECRET[:-1] + ("0" if OWN_SECRET[-1] != "0" else "1")),
        "a shortened key": pair(OWN_KEY[:-1], OWN_SECRET),
        "a key in lower case": pair(OWN_KEY.lower(), OWN_SECRET),
        "a secret of our format for a plain key": pair("plain", "gks_short-secret"),
        "bearer without a dot": (("authorization", f"Bearer {SECRET}"),),
        "bearer alone": (("authorization", "Bearer"),),
        "bearer with two spaces": (("authorization", f"Bearer  plain.{SECRET}"),),
        "bearer without key": (("authorization", f"Bearer .{SECRET}"),),
        "bearer without secret": (("authorization", "Bearer plain."),),
        "bearer null": (("authorization", "Bearer null"),),
        "bearer outside ASCII": (("authorization", "Bearer pl\u00e4in.geheimnis".encode()),),
        "bearer twice": (*bearer(), *bearer()),
        "bearer and basic": (*bearer(), *basic()),
        "a scheme that is not ours before bearer": (("authorization", "Digest a=b"), *bearer()),
        "bearer before a scheme that is not ours": (*bearer(), ("authorization", "Digest a=b")),
        "the headers, a scheme that is not ours and bearer": (*pair(), ("authorization", "Digest a=b"), *bearer()),
        "basic alone": (("authorization", "Basic"),),
        "basic without padding": (("authorization", "Basic cGxhaW46cw"),),
        "basic that is not base64": (("authorization", "Basic !!!!"),),
        "basic of base64url": (("authorization", "Basic cGxhaW46Pz8_Pj4-"),),
        "basic without a colon": (("authorization", "Basic " + base64.b64encode(b"plain").decode()),),
        "basic outside ASCII": (("authorization", "Basic " + base64.b64encode("plän:ß".encode()).decode()),),
        "basic with a line feed inside": (
            ("authorization", "Basic " + base64.b64encode(f"plain\n:{SECRET}".encode()).decode()),
        ),
        "basic with NUL inside": (
            ("authorization", "Basic " + base64.b64encode(f"pla\0in:{SECRET}".encode()).decode()),
        ),
        "different pairs in headers and basic": pair() + basic("reader"),
        "different secrets in headers and bearer": pair() + bearer("plain", WRONG_SECRET),
        "half of the headers and a whole bearer": (("x-api-key", "plain"), *bearer()),
        "a whole pair and a broken bearer": (*pair(), ("authorization", "Bearer nothing")),
    }
    return [_case(name, malformed, lines) for name, lines in defects.items()]


def _keys() -> list[Case]:
    return [
        _case("an unknown key", "unknown_key", pair("nobody")),
        _case("an unknown key as basic", "unknown_key", basic("nobody")),
        _case("an unknown key as bearer", "unknown_key", bearer("nobody")),
        _case("an unknown key of our format", "unknown_key", pair(with_checksum("gk_test_" + "x" * 22))),
        _case("a key in another case", "unknown_key", pair("PLAIN")),
        _case("a key with a dot as bearer", "unknown_key", bearer("dotted.key")),
        _case("a key with a colon as basic", "unknown_key", basic("with:colon")),
        _case("a wrong secret", "bad_secret", pair("plain", WRONG_SECRET)),
        _case("a wrong secret as basic", "bad_secret", basic("plain", WRONG_SECRET)),
        _case("a wrong secret as bearer", "bad_secret", bearer("plain", WRONG_SECRET)),
        _case("a secret in another case", "bad_secret", pair("plain", SECRET.upper())),
        _case("another key's secret", "bad_secret", pair("plain", OWN_SECRET)),
        _case("a disabled key", "inactive", pair("disabled")),
        _case("a revoked key", "inactive", pair("revoked")),
        _case("an expired key", "expired", pair("expired")),
        _case("a key that will expire", "ok", pair("lasting")),
        _case("a wrong secret of a disabled key", "bad_secret", pair("disabled", WRONG_SECRET)),
        _case("a wrong secret of an expired key", "bad_secret", pair("expired", WRONG_SECRET)),
        _case("all wrong, secret first", "bad_secret", pair("all-wrong", WRONG_SECRET), policy="read"),
        _case("all wrong, then domain", "wrong_domain", pair("all-wrong"), policy="read"),
        _case("all wrong, then state", "inactive", pair("right-domain-all-else-wrong"), policy="read"),
        _case("all wrong, then expiry", "expired", pair("expired-and-bound"), policy="read"),
        _case("all wrong, then origin", "origin_not_allowed", pair("bound-twice"), policy="read"),
        _case("all wrong, then network", "network_not_allowed", pair("bound-reader"), policy="both"),
        _case(
            "all wrong, organization before secret",
            "wrong_organization",
            pair("all-wrong", WRONG_SECRET),
            policy="globex",
        ),
    ]


def _domains() -> list[Case]:
    def here(name: str, api_key: str, **fields: Any) -> Case:
        return _case(f"{name} is covered", "ok", pair(api_key), **fields)

    def elsewhere(name: str, api_key: str, **fields: Any) -> Case:
        return _case(f"{name} is not covered", "wrong_domain", pair(api_key), **fields)

    return [
        here("the host by http", "plain", scheme="http"),
        here("the host in capitals", "plain", host="API.Example.COM"),
        here("the host with a final dot", "plain", host="api.example.com."),
        here("the host with the default port", "plain", host="api.example.com:443"),
        here("the host with the default port of http", "plain", scheme="http", host="api.example.com:80"),
        elsewhere("another host", "plain", host="other.example.com"),
        elsewhere("the parent", "plain", host="example.com"),
        elsewhere("a child", "plain", host="v1.api.example.com"),
        elsewhere("a host that ends alike", "plain", host="evilapi.example.com"),
        elsewhere("a host that begins alike", "plain", host="api.example.com.evil.example"),
        elsewhere("another port", "plain", host="api.example.com:8443"),
        elsewhere("the default port of the other scheme", "plain", host="api.example.com:80"),
        here("one label under the star", "star", host="any.example.com"),
        elsewhere("two labels under the star", "star", host="a.b.example.com"),
        elsewhere("no label under the star", "star", host="example.com"),
        elsewhere("a port under the star", "star", host="any.example.com:8443"),
        here("the port of the rule", "port-8443", host="api.example.com:8443"),
        here("the port of the rule by http", "port-8443", scheme="http", host="api.example.com:8443"),
        elsewhere("no port where the rule has one", "port-8443"),
        here("the origin", "https-origin"),
        elsewhere("the origin by http", "https-origin", scheme="http"),
        elsewhere("the origin on another port", "https-origin", host="api.example.com:444"),
        here("the prefix itself", "prefix", uri="/v1"),
        here("below the prefix", "prefix", uri="/v1/orders?x=1"),
        here("below the prefix, percent-encoded", "prefix", uri="/%761/orders"),
        elsewhere("beside the prefix", "prefix", uri="/v10"),
        elsewhere("above the prefix", "prefix", uri="/"),
        elsewhere("the prefix in the query", "prefix", uri="/?/v1"),
        elsewhere("dot segments below the prefix", "prefix", uri="/v1/../admin"),
        elsewhere("encoded dot segments below the prefix", "prefix", uri="/v1/%2e%2e/admin"),
        elsewhere("an encoded slash below the prefix", "prefix", uri="/v1%2fadmin"),
        elsewhere("two slashes below the prefix", "prefix", uri="/v1//admin"),
        elsewhere("a path encoded twice", "prefix", uri="/%25761/orders"),
        here("the first of several", "several", host="one.example.net"),
        here("the second of several", "several", host="two.example.net:8080"),
        here("the third of several", "several", host="x.three.example.net"),
        elsewhere("none of several", "several", host="four.example.net"),
        here("an international name in ASCII", "idn", host="xn--bcher-kva.example"),
        elsewhere("another international name", "idn", host="xn--bcher-kvb.example"),
        here("an IPv4 address", "ipv4", host="192.0.2.7"),
        elsewhere("another IPv4 address", "ipv4", host="192.0.2.8"),
        here("an IPv6 address", "ipv6", host="[2001:db8::1]"),
        here("an IPv6 address in long form", "ipv6", host="[2001:0db8:0:0:0:0:0:1]:443"),
        elsewhere("a name for a key of our own paths", "own-paths"),
    ]


def _organizations_and_scopes() -> list[Case]:
    return [
        _case("the policy's organization", "ok", pair(), policy="acme"),
        _case("another organization", "wrong_organization", pair("foreign"), policy="acme"),
        _case("the other policy's organization", "ok", pair("foreign"), policy="globex"),
        _case("any organization", "ok", pair("foreign")),
        _case(
            "another organization and a wrong secret",
            "wrong_organization",
            pair("foreign", WRONG_SECRET),
            policy="acme",
        ),
        _case("the scope", "ok", pair("reader"), policy="read"),
        _case("no scope", "insufficient_scope", pair(), policy="read"),
        _case("one scope of two", "insufficient_scope", pair("reader"), policy="both"),
        _case("two scopes of two", "ok", pair("scoped"), policy="both"),
        _case("a wildcard", "ok", pair("wild"), policy="both"),
        _case("another wildcard", "insufficient_scope", pair("wild-other"), policy="read"),
        _case("a scope of ours", "ok", pair("operator"), policy="own-scope"),
        _case("a wildcard is no scope of ours", "insufficient_scope", pair("wild"), policy="own-scope"),
        _case("a scope as basic", "ok", basic("reader"), policy="read"),
        _case("no scope as bearer", "insufficient_scope", bearer(), policy="read"),
        _case("all that is strict", "ok", pair("reader"), policy="strict"),
        _case("strict about the organization", "wrong_organization", pair("foreign-reader"), policy="strict"),
        _case("strict about the scope", "insufficient_scope", pair(), policy="strict"),
    ]


def _credential_lists() -> list[Case]:
    missing = "missing_credentials"
    return [
        _case("headers where headers are read", "ok", pair(), policy="headers-only"),
        _case("basic where headers are read", missing, basic(), policy="headers-only"),
        _case("bearer where headers are read", missing, bearer(), policy="headers-only"),
        _case(
            "an application's bearer passes beside headers",
            "ok",
            (*pair(), ("authorization", "Bearer jwt")),
            policy="headers-only",
        ),
        _case("broken basic is not read", "ok", (*pair(), ("authorization", "Basic !!")), policy="headers-only"),
        _case("basic where basic is read", "ok", basic(), policy="basic-only"),
        _case("headers where basic is read", missing, pair(), policy="basic-only"),
        _case("doubled headers where basic is read", "ok", (*pair(), *pair("nobody"), *basic()), policy="basic-only"),
        _case("bearer where basic is read", missing, bearer(), policy="basic-only"),
        _case("bearer where bearer is read", "ok", bearer(), policy="bearer-only"),
        _case("basic where bearer is read", missing, basic(), policy="bearer-only"),
        _case("bearer where headers are not read", "ok", (*pair("nobody"), *bearer()), policy="no-headers"),
    ]


def _bound_keys() -> list[Case]:
    def origin(value: str | bytes) -> Lines:
        return (("origin", value),)

    refused = "origin_not_allowed"
    return [
        _case("the key's origin", "ok", pair("origin-bound"), extra=origin(APP_ORIGIN)),
        _case("the key's origin in capitals", "ok", pair("origin-bound"), extra=origin("HTTPS://App.Example.com")),
        _case("the key's origin with the default port", "ok", pair("origin-bound"), extra=origin(APP_ORIGIN + ":443")),
        _case("no origin for a bound key", refused, pair("origin-bound")),
        _case("another origin", refused, pair("origin-bound"), extra=origin("https://evil.example")),
        _case("the origin by http", refused, pair("origin-bound"), extra=origin("http://app.example.com")),
        _case("the null origin", refused, pair("origin-bound"), extra=origin("null")),
        _case("an origin that is none", refused, pair("origin-bound"), extra=origin("https://app.example.com/path")),
        _case("any origin for a free key", "ok", pair(), extra=origin("https://evil.example")),
        _case("the key's network", "ok", pair("network-bound")),
        _case("the key's IPv6 network", "ok", pair("network-bound"), client_ip="2001:db8:1::7"),
        _case("the key's network in IPv6 form", "ok", pair("network-bound"), client_ip="::ffff:192.0.2.9"),
        _case("the client before trusted proxies", "ok", pair("network-bound"), client_ip="192.0.2.9, 127.0.0.1"),
        _case("another network", "network_not_allowed", pair("network-bound"), client_ip="198.51.100.1"),
        _case("another IPv6 network", "network_not_allowed", pair("network-bound"), client_ip="2001:db9::1"),
        _case("a forged first hop", "network_not_allowed", pair("network-bound"), client_ip="192.0.2.9, 198.51.100.1"),
    ]


def _preflights() -> list[Case]:
    asks: Lines = (("origin", APP_ORIGIN), ("access-control-request-method", "PUT"))
    missing = "missing_credentials"
    return [
        _case("a preflight that passes", "preflight", method="OPTIONS", policy="preflight", extra=asks),
        _case("a preflight with credentials", "preflight", pair(), method="OPTIONS", policy="preflight", extra=asks),
        _case(
            "a preflight with a wrong secret",
            "preflight",
            pair("plain", WRONG_SECRET),
            method="OPTIONS",
            policy="preflight",
            extra=asks,
        ),
        _case("a preflight where none passes", missing, method="OPTIONS", extra=asks),
        _case("options without an origin", missing, method="OPTIONS", policy="preflight", extra=asks[1:]),
        _case("options without a requested method", missing, method="OPTIONS", policy="preflight", extra=asks[:1]),
        _case("a get that looks like a preflight", missing, policy="preflight", extra=asks),
        _case("a preflight in lower case is none", missing, method="options", policy="preflight", extra=asks),
        _case("options with credentials", "ok", pair(), method="OPTIONS", policy="preflight"),
        _case("a refusal for a listed origin", missing, policy="cors", extra=asks[:1]),
        _case("a refusal for an unlisted origin", missing, policy="cors", extra=(("origin", "https://evil.example"),)),
        _case(
            "a wrong secret from a listed origin",
            "bad_secret",
            pair("plain", WRONG_SECRET),
            policy="cors",
            extra=asks[:1],
        ),
        _case("an allowed request of a listed origin", "ok", pair(), policy="cors", extra=asks[:1]),
    ]


def _shadow() -> list[Case]:
    def passes(name: str, reason: str, lines: Lines = (), **fields: Any) -> Case:
        return _case(f"in shadow mode, {name}", "shadow", lines, **{"policy": "trial", "shadowed": reason, **fields})

    return [
        passes("nothing", "missing_credentials"),
        passes("a broken pair", "malformed_key", pair("plain,plain")),
        passes("an unknown key", "unknown_key", pair("nobody")),
        passes("a wrong secret", "bad_secret", pair("plain", WRONG_SECRET)),
        passes("another domain", "wrong_domain", pair(), host="other.example.com"),
        passes("a disabled key", "inactive", pair("disabled")),
        passes("an expired key", "expired", pair("expired")),
        passes("a missing scope", "insufficient_scope", pair(), policy="trial-read"),
        passes("another organization", "wrong_organization", pair("foreign"), policy="trial-read"),
        passes("a missing context", "bad_context", pair(), context=()),
        _case("in shadow mode, an allowed request", "ok", pair(), policy="trial"),
        passes("a body", "bad_request", pair(), body_lines=(("content-length", "2"),)),
    ]


def _contexts() -> list[Case]:
    whole = five()
    names = [name for name, _ in whole]
    cases = [
        _case(
            f"context without {name}", "bad_context", pair(), context=tuple(line for line in whole if line[0] != name)
        )
        for name in names
    ]
    cases += [
        _case(
            f"context with an empty {name}",
            "bad_context",
            pair(),
            context=tuple((n, "" if n == name else v) for n, v in whole),
        )
        for name in names
    ]
    cases += [
        _case(f"context with {name} twice", "bad_context", pair(), context=(*whole, line))
        for line in whole
        for name in [line[0]]
        if name != "X-Forwarded-For"
    ]
    cases += [
        _case(
            f"context with {name} by comma",
            "bad_context",
            pair(),
            context=tuple((n, f"{v!s}, {v!s}" if n == name else v) for n, v in whole),
        )
        for name in names
        if name != "X-Forwarded-For"
    ]
    wrong: dict[str, dict[str, Any]] = {
        "a scheme of another kind": {"proto": "ftp"},
        "a scheme with a colon": {"proto": "https:"},
        "a method with a space": {"method": "GET /"},
        "a method of 65 characters": {"method": "A" * 65},
        "a method in brackets": {"method": "GET[]"},
        "a relative address": {"uri": "orders"},
        "an absolute address": {"uri": "https://api.example.com/orders"},
        "an address with a space": {"uri": "/or ders"},
        "a host list": {"host": "api.example.com, evil.example"},
        "a host of 300 characters": {"host": "h" * 300},
        "a host with user information": {"host": "user@api.example.com"},
        "a host with a path": {"host": "api.example.com/x"},
        "a host with a port that is none": {"host": "api.example.com:port"},
        "a host with port 0": {"host": "api.example.com:0"},
        "a host outside ASCII": {"host": "bücher.example".encode()},
        "a client that is no address": {"client": "unknown"},
        "a last hop that is no address": {"client": "192.0.2.1, _hidden"},
        "a client with an empty hop": {"client": "192.0.2.1,"},
    }
    cases += [
        _case(f"context with {name}", "bad_context", pair(), context=five(**parts)) for name, parts in wrong.items()
    ]
    right: dict[str, dict[str, Any]] = {
        "ws": {"proto": "ws"},
        "wss": {"proto": "wss"},
        "HTTPS in capitals": {"proto": "HTTPS"},
        "an asterisk": {"uri": "*", "method": "OPTIONS"},
        "a comma in the address": {"uri": "/a,b?c=1,2"},
        "a client with its port": {"client": "192.0.2.1:51234"},
        "a client in brackets": {"client": "[2001:db8::1]:443"},
        "several hops": {"client": "203.0.113.1, 198.51.100.1, 127.0.0.1"},
    }
    cases += [_case(f"context with {name}", "ok", pair(), context=five(**parts)) for name, parts in right.items()]
    hops: Lines = (*five(client="203.0.113.1"), ("X-Forwarded-For", "192.0.2.1"))
    others: Lines = (("X-Original-URL", f"https://{DOMAIN}/"), ("Forwarded", f"host={DOMAIN};proto=https"))
    cases += [
        _case("context with two lines of hops", "ok", pair("network-bound"), context=hops),
        _case("no context at all", "bad_context", pair(), context=()),
        _case("context under other names", "bad_context", pair(), context=others),
        _case("an unknown policy", "unknown_policy", pair(), policy="no-such-policy"),
        _case("a policy in capitals", "unknown_policy", pair(), policy="DEFAULT"),
        _case("an unknown policy without context", "unknown_policy", pair(), policy="no-such-policy", context=()),
        _case("a body", "bad_request", pair(), body_lines=(("content-length", "2"),)),
        _case("a body of unknown length", "bad_request", pair(), body_lines=(("transfer-encoding", "chunked"),)),
        _case("a body on a post", "bad_request", pair(), method="POST", body_lines=(("content-length", "2"),)),
        _case("an announced empty body", "ok", pair(), body_lines=(("content-length", "0"),)),
    ]  # fmt: skip
    return cases


def _clients() -> list[Case]:
    page: Lines = (("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),)
    navigation: Lines = (*page, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))
    handshake: Lines = (("upgrade", "websocket"), ("connection", "Upgrade"))
    form: Lines = (*page, ("content-type", "application/x-www-form-urlencoded"))
    missing = "missing_credentials"
    return [
        _case("a browser without credentials", missing, extra=navigation, kind="redirect"),
        _case("a browser by its accept alone", missing, extra=page, kind="redirect"),
        _case("a browser that posts a form", missing, method="POST", extra=form, kind="redirect"),
        _case("a browser with a key is an API client", "bad_secret", pair("plain", WRONG_SECRET), extra=navigation),
        _case("a fetch of a browser", missing, extra=(*page, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"))),
        _case("an XMLHttpRequest", missing, extra=(*page, ("x-requested-with", "XMLHttpRequest"))),
        _case("a prefetch", missing, extra=(*navigation, ("sec-purpose", "prefetch"))),
        _case("a websocket", missing, extra=(*page, ("upgrade", "websocket"))),
        _case("a websocket's whole handshake", missing, extra=(*page, *handshake)),
        _case("a websocket with a key", "ok", pair(), extra=handshake),
        _case("a client that names JSON", missing, extra=(("accept", "application/json"),)),
        _case("a client that says nothing", missing, extra=(("accept", "*/*"),)),
        _case("a policy for browsers", missing, policy="browser", kind="redirect"),
        _case("a policy for browsers and a wrong secret", "bad_secret", pair("plain", WRONG_SECRET), policy="browser"),
        _case("a policy for API clients", missing, policy="api", extra=navigation),
        _case("a browser and a missing context", "bad_context", extra=navigation, context=(), kind="page"),
        _case("a browser and an unknown policy", "unknown_policy", policy="no-such-policy", extra=navigation, kind="page"),
    ]  # fmt: skip


CASES: tuple[Case, ...] = (
    *_forms(),
    *_missing(),
    *_malformed(),
    *_keys(),
    *_domains(),
    *_organizations_and_scopes(),
    *_credential_lists(),
    *_bound_keys(),
    *_preflights(),
    *_shadow(),
    *_contexts(),
    *_clients(),
)
