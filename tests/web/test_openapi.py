"""``/openapi.json``: valid, complete, true to what the views do, and without anything that could be used as a secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service import __version__
from service.auth.tokens import api_key_problem, secret_problem
from service.web.openapi_operation import operation_of
from service.web.openapi_parts import TAGS
from tests.support.in_process import ask
from tests.support.management_api import HOST, NOBODY, Api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse


def get(logged: LoggedGatekey, path: str, **headers: str) -> RawResponse:
    """Without any credentials."""
    lines = (("Host", HOST), *((name.replace("_", "-"), value) for name, value in headers.items()))
    return ask(logged.app, "GET", path, lines)


@pytest.fixture(scope="module")
def document(logged: LoggedGatekey) -> dict[str, Any]:
    found: dict[str, Any] = get(logged, "/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, item) for path, methods in document["paths"].items() for method, item in methods.items()]


def everything(found: Any) -> Iterator[Any]:
    yield found
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from everything(inner)


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    """By a validator of somebody else's, and of this version of Gatekey."""
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == __version__
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_it_has_every_route_of_the_api_and_no_other(logged: LoggedGatekey, document: dict[str, Any]) -> None:
    """With every method."""
    routed = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in logged.app.url_map.iter_rules()
        if rule.rule.startswith("/v1")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routed == {(path, method) for path, method, _ in operations(document)}


def test_every_operation_says_what_it_needs_and_what_it_answers(
    logged: LoggedGatekey, document: dict[str, Any]
) -> None:
    """A summary, a group, the three ways to authenticate with its scope, its errors; and its identifier is its own."""
    views = {
        endpoint.rpartition(".")[2]: operation
        for endpoint, view in logged.app.view_functions.items()
        if (operation := operation_of(view)) is not None
    }
    found = operations(document)
    assert sorted(item["operationId"] for _, _, item in found) == sorted(views)
    for path, method, item in found:
        scope = views[item["operationId"]].scope
        assert item["summary"], path
        assert set(item["tags"]) < set(TAGS)
        assert [sorted(way) for way in item["security"]] == [["api_key", "secret_token"], ["bearer"], ["basic"]]
        assert all(scopes == ([scope] if scope else []) for way in item["security"] for scopes in way.values())
        assert {"401", "403", "422", "503", "default"} <= set(item["responses"])
        named = {parameter["$ref"].rpartition("/")[2] for parameter in item["parameters"] if "$ref" in parameter}
        assert ("idempotency_key" in named) == (method == "post" and path != "/v1/keys/verify")
        headers = set.union(
            *(set(item["responses"][code].get("headers", {})) for code in item["responses"] if code < "3")
        )
        assert ("Idempotent-Replayed" in headers) == ("idempotency_key" in named)
        assert ("ETag" in headers) >= ("if_none_match" in named)
        assert ("if_match" in named) == (path.startswith("/v1/keys/{key_id}") and method != "get")


def test_both_forms_of_credentials_are_described(document: dict[str, Any]) -> None:
    """The two headers, which belong together, and ``Authorization``."""
    schemes = document["components"]["securitySchemes"]
    assert {(item.get("name"), item.get("scheme")) for item in schemes.values()} == {
        ("x-api-key", None),
        ("x-secret-token", None),
        (None, "bearer"),
        (None, "basic"),
    }


def test_no_example_can_be_used_as_a_key_or_a_secret(document: dict[str, Any]) -> None:
    """Whatever looks like one has a wrong checksum."""
    texts = [text for text in everything(document) if isinstance(text, str)]
    keys = [text for text in texts if text.startswith(("gk_live_", "gk_test_"))]
    secrets = [text for text in texts if text.startswith("gks_")]
    assert keys
    assert secrets
    assert all(api_key_problem(text) == "its checksum is wrong" for text in keys)
    assert all(secret_problem(text) == "its checksum is wrong" for text in secrets)


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    """And so does every default."""
    checked = 0
    for schema in everything(document):
        if isinstance(schema, dict) and ({"type", "anyOf"} & set(schema)) and "examples" in schema:
            for value in schema["examples"]:
                whole = {**schema, "components": document["components"]}
                assert list(OAS31Validator(whole).iter_errors(value)) == [], value
                checked += 1
        if isinstance(schema, dict) and ({"type", "anyOf"} & set(schema)) and "default" in schema:
            assert list(OAS31Validator(schema).iter_errors(schema["default"])) == [], schema
    assert checked > 5


def test_what_bounds_a_list_counts_its_items(document: dict[str, Any]) -> None:
    """The bounds of a text mean nothing there: a client that checks by them would send what is refused."""
    arrays = [item for item in everything(document) if isinstance(item, dict) and item.get("type") == "array"]
    assert [item for item in arrays if {"maxLength", "minLength"} & set(item)] == []
    domains = document["components"]["schemas"]["CreateKey"]["properties"]["domains"]
    assert (domains["minItems"], domains["maxItems"]) == (1, 100)
    assert document["components"]["schemas"]["VerifyRequest"]["properties"]["scopes"]["maxItems"] == 32
    for model in ("CreateKey", "ChangeKey"):
        fields = document["components"]["schemas"][model]["properties"]
        most = {name: fields[name]["maxItems"] for name in ("domains", "scopes", "origins", "networks")}
        assert most == {"domains": 100, "scopes": 32, "origins": 100, "networks": 100}


def test_a_field_that_was_not_described_is_noticed(logged: LoggedGatekey) -> None:
    """The check that all tests of the management make can fail."""
    api = Api(logged.app)
    answer = api.ask("GET", "/v1/organizations/acme")
    wrong = type(answer)(answer.status, answer.headers, answer.body.replace(b'"name"', b'"nmae"'))
    with pytest.raises(AssertionError, match="nmae"):
        api.check("GET", "/v1/organizations/acme", wrong)
    headers = tuple(item for item in answer.headers if item[0] != "x-request-id")
    with pytest.raises(AssertionError, match="X-Request-Id is missing"):
        api.check("GET", "/v1/organizations/acme", type(answer)(200, headers, answer.body))


def test_the_answers_of_the_other_views_fit_too(logged: LoggedGatekey) -> None:
    """Of ``whoami`` and of both kinds of verdict."""
    api = Api(logged.app)
    body = {"api_key": "acme-admin", "secret_token": "not-the-secret-of-it", "domain": "a.example"}
    statuses = [
        api.ask("GET", "/v1/whoami").status,
        api.ask("GET", "/v1/whoami", key=NOBODY).status,
        api.ask("POST", "/v1/keys/verify", body).status,
        api.ask("POST", "/v1/keys/verify", {**body, "domain": "a b"}).status,
    ]
    assert statuses == [200, 401, 200, 422]


def test_it_is_public_and_known_by_its_tag(logged: LoggedGatekey) -> None:
    """Programs and people look at it before they have a key."""
    answer = get(logged, "/openapi.json")
    assert answer.header("content-type") == "application/json"
    again = get(logged, "/openapi.json", If_None_Match=answer.header("etag"))
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/docs", "text/html"),
        ("/docs/start.js", "text/javascript"),
        ("/docs/page.css", "text/css"),
        ("/docs/swagger-ui.css", "text/css"),
        ("/docs/swagger-ui-bundle.js", "text/javascript"),
    ],
)
def test_the_page_and_what_it_is_made_of_are_served_by_us(logged: LoggedGatekey, path: str, media_type: str) -> None:
    """Nothing inline, nothing from elsewhere, by policy."""
    answer = get(logged, path)
    assert answer.status == 200
    assert answer.header("content-type").startswith(media_type)
    assert answer.header("x-content-type-options") == "nosniff"
    policy = answer.header("content-security-policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_nothing_else_of_the_package_is_served(logged: LoggedGatekey) -> None:
    """And no other file."""
    for name in ("index.html", "oauth2-redirect.html", "..%2f__init__.py", "swagger-ui.js"):
        assert get(logged, f"/docs/{name}").status == 404


def test_it_is_counted_as_documentation(logged: LoggedGatekey) -> None:
    """Not as anybody's traffic."""
    read = logged.gatekey.metrics.registry.get_sample_value
    labels = {"route": "docs", "status": "2xx"}
    before = read("gatekey_http_requests_total", labels) or 0
    get(logged, "/docs")
    assert read("gatekey_http_requests_total", labels) == before + 1
