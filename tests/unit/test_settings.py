"""Settings of contract 5: every name, default, bound and source."""

from __future__ import annotations

import base64
import pickle
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from service.settings import SECRETS, SETTINGS, Settings, SettingsError, load_settings
from tests.support import leaks

PEPPER = "a-pepper-of-the-settings-tests-32b"
KEY = "a-secret-key-of-the-settings-tests"
URL = "redis://user:settings-url-password-5b1e@store.internal/0"
leaks.register(PEPPER, KEY, "settings-url-password-5b1e")


@pytest.fixture(autouse=True)
def _no_file_nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``gatekey.toml`` where the tests run must not be read by them."""
    monkeypatch.chdir(tmp_path)


def problems_of(environ: dict[str, str], **options: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, **options)
    return caught.value.problems


def with_file(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "some.toml"
    path.write_text(text, encoding="utf-8")
    return {"GATEKEY_CONFIG": str(path)}


LOOPBACK = ("127.0.0.0/8", "::1/128")
DEFAULTS: dict[str, Any] = {
    "store_listen_url": None,
    "store_timeout": 0.25,
    "organization_id": "",
    "peppers": None,
    "pepper_current": None,
    "cache_ttl": 900,
    "cache_negative_ttl": 5,
    "cache_max_entries": 100_000,
    "cache_stale_if_error": 300,
    "usage_retention": 400,
    "audit_retention": 0,
    "trusted_proxies": tuple(map(ip_network, LOOPBACK)),
    "unsure_client": "api",
    "public_url": "",
    "login_url": "/login",
    "login_next_hosts": (),
    "metrics_allow": tuple(
        map(ip_network, (*LOOPBACK, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"))
    ),
    "admin_listen": None,
    "mode": "enforce",
    "role": "all",
    "host": "127.0.0.1",
    "port": 8000,
    "uds": None,
    "tls_cert": None,
    "tls_key": None,
    "tls_client_ca": None,
    "workers": None,
    "drain": 5,
    "shutdown_timeout": 10,
    "log_format": "json",
    "log_level": "info",
    "log_summarize": True,
    "traces": False,
}


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    """Without any setting the service runs on memory with the values of contract 5."""
    settings = load_settings({})
    assert settings.store_url.reveal() == "memory://"
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert {*DEFAULTS, "store_url", "pepper", "secret_key"} == {*SETTINGS}
    assert set(settings.policies) == {"default"}
    assert settings.worker_count == 1


GIVEN: list[tuple[str, str, Any]] = [
    ("store_timeout", "1.5", 1.5),
    ("organization_id", "acme-2", "acme-2"),
    ("cache_ttl", "0", 0),
    ("cache_negative_ttl", "2.5", 2.5),
    ("cache_max_entries", "7", 7),
    ("cache_stale_if_error", "0", 0),
    ("trusted_proxies", "10.1.0.0/16, 192.0.2.7,2001:db8::/32", ("10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32")),
    ("unsure_client", "browser", "browser"),
    ("public_url", "https://Auth.Example.com:443/", "https://auth.example.com"),
    ("login_url", "https://login.example.com/sign-in?from=gatekey", "https://login.example.com/sign-in?from=gatekey"),
    ("login_next_hosts", "App.example.com, .example.org,.bücher.example", None),
    ("metrics_allow", "192.0.2.0/24", ("192.0.2.0/24",)),
    ("admin_listen", "127.0.0.1:9000", ("127.0.0.1", 9000)),
    ("admin_listen", "[::1]:9000", ("::1", 9000)),
    ("mode", "shadow", "shadow"),
    ("role", "doors", "doors"),
    ("host", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - a value, nothing listens
    ("host", "[::]", "::"),
    ("host", "gatekey.internal", "gatekey.internal"),
    ("port", "8443", 8443),
    ("uds", "/run/gatekey.sock", Path("/run/gatekey.sock")),
    ("workers", "3", 3),
    ("drain", "0", 0),
    ("shutdown_timeout", "0.5", 0.5),
    ("log_format", "console", "console"),
    ("log_level", "WARNING", "warning"),
    ("log_summarize", "off", False),
]
EXPECTED_HOSTS = ("app.example.com", ".example.org", ".xn--bcher-kva.example")


@pytest.mark.parametrize(("name", "text", "expected"), GIVEN)
def test_a_variable_sets_its_setting(name: str, text: str, expected: Any) -> None:
    """GATEKEY_<NAME> is read, typed and brought to one form; lists are separated by commas."""
    found = getattr(load_settings({f"GATEKEY_{name.upper()}": text}), name)
    if name in ("trusted_proxies", "metrics_allow"):
        found = tuple(map(str, found))
    assert found == (EXPECTED_HOSTS if name == "login_next_hosts" else expected)


@pytest.mark.parametrize(
    ("name", "toml"),
    [
        ("port", "8443"),
        ("port", '"8443"'),
        ("trusted_proxies", '["10.1.0.0/16"]'),
        ("trusted_proxies", '"10.1.0.0/16"'),
        ("cache_ttl", "60"),
        ("log_summarize", "false"),
        ("login_next_hosts", '["app.example.com"]'),
    ],
)
def test_the_file_takes_the_same_names_and_the_environment_beats_it(name: str, toml: str, tmp_path: Path) -> None:
    """In gatekey.toml a setting is its name in lower case, as text, number, switch or list."""
    text = {
        "port": "9", "trusted_proxies": "192.0.2.0/24", "cache_ttl": "7", "log_summarize": "on", "login_next_hosts": "x.example"
    }[name]  # fmt: skip
    environ = with_file(tmp_path, f"{name} = {toml}\n")
    default = DEFAULTS[name]
    from_file = getattr(load_settings(environ), name)
    from_both = getattr(load_settings({**environ, f"GATEKEY_{name.upper()}": text}), name)
    assert from_file != default
    assert from_both != from_file
    assert from_both == getattr(load_settings({f"GATEKEY_{name.upper()}": text}), name)


BOUNDS = [
    ("store_timeout", "0.01", "60"),
    ("cache_ttl", "0", "86400"),
    ("cache_negative_ttl", "0", "3600"),
    ("cache_max_entries", "1", "100000000"),
    ("cache_stale_if_error", "0", "86400"),
    ("port", "1", "65535"),
    ("workers", "1", "512"),
    ("drain", "0", "600"),
    ("shutdown_timeout", "0.1", "600"),
]


@pytest.mark.parametrize(("name", "low", "high"), BOUNDS)
def test_a_number_lies_within_its_bounds(name: str, low: str, high: str) -> None:
    """Both bounds are values; what lies outside, or is no number, is refused with the bounds."""
    for text in (low, high):
        assert float(getattr(load_settings({f"GATEKEY_{name.upper()}": text}), name)) == float(text)
    below, above = str(float(low) - 0.001), str(int(high) + 1)
    for text in (below, above, "many", "nan", "inf", "1e999", "9" * 5000, "-1", "0x10", "true"):
        (problem,) = problems_of({f"GATEKEY_{name.upper()}": text})
        assert problem.startswith(f"GATEKEY_{name.upper()}: must be a ")
        assert problem.endswith(f"number from {low} to {high}")


BAD: list[tuple[str, str]] = [
    ("store_url", "some-store"),
    ("store_url", "postgresql:// with spaces"),
    ("store_listen_url", "nothing"),
    ("organization_id", "Acme"),
    ("organization_id", "a" * 64),
    ("trusted_proxies", "10.0.0.1/8"),
    ("trusted_proxies", "everyone"),
    ("trusted_proxies", "::ffff:10.0.0.0/104"),
    ("metrics_allow", "10.0.0.0/8;192.168.0.0/16"),
    ("unsure_client", "robot"),
    ("public_url", "auth.acme.example"),
    ("public_url", "https://auth.acme.example/path"),
    ("public_url", "ftp://auth.acme.example"),
    ("login_url", "login"),
    ("login_url", "//evil.example"),
    ("login_url", "/log in"),
    ("login_url", "/login#top"),
    ("login_url", "/\\evil.example"),
    ("login_url", "javascript:alert(1)"),
    ("login_next_hosts", "https://app.example.com"),
    ("login_next_hosts", "app.example.com:8443"),
    ("login_next_hosts", "*.example.com"),
    ("admin_listen", "9000"),
    ("admin_listen", "127.0.0.1:0"),
    ("admin_listen", "::1:9000"),
    ("mode", "off"),
    ("role", "pages"),
    ("host", "not a host"),
    ("host", "127.0.0.1:8000"),
    ("uds", "/" + "x" * 103),
    ("pepper_current", "one"),
    ("log_format", "xml"),
    ("log_level", "loud"),
    ("log_summarize", "perhaps"),
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_value_is_named_on_one_line_and_not_shown(name: str, text: str) -> None:
    """The variable is named, what it must be is said, and nothing of what was given is repeated."""
    problems = problems_of({f"GATEKEY_{name.upper()}": text})
    assert any(problem.startswith(f"GATEKEY_{name.upper()}: ") for problem in problems)
    assert all(text not in problem and "\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    "toml",
    ["port = true", "port = 8000.5", "cache_ttl = [1]", "host = 5", "store_url = 5", "trusted_proxies = [5]",
     "trusted_proxies = true", "uds = 1979-05-27", "pepper_file = 5", "mode = []", "log_summarize = 1",
     "organization_id = {a = 1}", "login_next_hosts = [[]]", 'tls_cert = "a\\u0000b"', "admin_listen = 9000"],
)  # fmt: skip
def test_a_value_of_the_wrong_toml_type_is_a_problem_of_its_setting(toml: str, tmp_path: Path) -> None:
    """A boolean is no number, a number no text: each is refused by name instead of being guessed at."""
    (problem,) = problems_of(with_file(tmp_path, toml))
    assert problem.startswith(f"GATEKEY_{toml.partition(' ')[0].upper()}: must ")


def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path) -> None:
    """Compose files and unit files set variables to nothing; that means the default, in the file too."""
    environ = {f"GATEKEY_{name.upper()}": "" for name in SETTINGS} | {
        f"GATEKEY_{name.upper()}_FILE": "" for name in SECRETS
    }
    assert load_settings(environ).port == 8000
    assert load_settings(with_file(tmp_path, 'organization_id = ""\nstore_listen_url = ""')).organization_id == ""


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("GATEKEY_STORE_URI", "GATEKEY_STORE_URL"),
        ("GATEKEY_CACHE_TLL", "GATEKEY_CACHE_TTL"),
        ("GATEKEY_PEPER", "GATEKEY_PEPPER"),
        ("GATEKEY_CONFIG_FILE", "GATEKEY_CONFIG"),
        ("GATEKEY_port", "GATEKEY_PORT"),
    ],
)
def test_an_unknown_variable_stops_the_start_and_the_likely_one_is_named(variable: str, meant: str) -> None:
    """A typo in a name must not leave a default in force unnoticed."""
    assert problems_of({variable: "s3cret-value"}) == (f"{variable}: is no setting; did you mean {meant}?",)


def test_an_unknown_name_in_the_file_is_a_problem_too(tmp_path: Path) -> None:
    """So is a table of settings, and a name with a line end is shown on one line."""
    problems = problems_of(with_file(tmp_path, 'stor_url = "x"\n"a\\nb" = 1\n[gatekey]\nport = 1\n'))
    assert problems == (
        "stor_url in the configuration file: is no setting; did you mean store_url?",
        "a?b in the configuration file: is no setting",
        "gatekey in the configuration file: is no setting",
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEKEY_SERVICE_HOST", "10.0.0.1"),
        ("GATEKEY_SERVICE_PORT", "80"),
        ("GATEKEY_SERVICE_PORT_HTTP", "80"),
        ("GATEKEY_PORT", "tcp://10.0.0.1:80"),
        ("GATEKEY_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("GATEKEY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("GATEKEY_TEST_REDIS_URL", "redis://127.0.0.1"),
        ("OTHER_GATEKEY_X", "1"),
    ],
)
def test_variables_that_are_not_meant_for_the_service_are_ignored(variable: str, value: str) -> None:
    """Kubernetes describes a service called gatekey in variables of its own."""
    assert load_settings({variable: value}).port == 8000


# -- secrets ----------------------------------------------------------------------------------------------------------

SECRET_VALUES = {
    "store_url": URL,
    "store_listen_url": URL,
    "pepper": PEPPER,
    "peppers": "1:" + base64.b64encode(PEPPER.encode()).decode(),
    "secret_key": KEY,
}


def _outside_memory(name: str) -> dict[str, str]:
    needed = {"GATEKEY_STORE_URL": URL, "GATEKEY_SECRET_KEY": KEY}
    if name != "peppers":
        needed["GATEKEY_PEPPER"] = PEPPER
    return {variable: value for variable, value in needed.items() if variable != f"GATEKEY_{name.upper()}"}


def test_announcements_come_from_the_same_kind_of_store() -> None:
    """A listen URL of another scheme is a mistake, and neither URL is told."""
    environ = {**_outside_memory("pepper"), "GATEKEY_PEPPER": PEPPER, "GATEKEY_STORE_LISTEN_URL": "other://host"}
    assert problems_of(environ) == ("GATEKEY_STORE_LISTEN_URL: must have the scheme of GATEKEY_STORE_URL",)


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_can_come_from_a_file(name: str, tmp_path: Path) -> None:
    """<NAME>_FILE, in the environment and in gatekey.toml; the line end that editors add is no part of the secret."""
    path = tmp_path / "secret"
    path.write_text(SECRET_VALUES[name] + "\r\n", encoding="utf-8")
    others = _outside_memory(name)
    from_environment = load_settings({**others, f"GATEKEY_{name.upper()}_FILE": str(path)})
    from_file = load_settings({**others, **with_file(tmp_path, f'{name}_file = "{path}"')})
    for settings in (from_environment, from_file):
        assert getattr(settings, name).reveal() == SECRET_VALUES[name]
        assert settings.make_peppers().match("x", settings.make_peppers().hash("x"))


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_given_twice_or_from_no_good_file_is_refused(name: str, tmp_path: Path) -> None:
    """Both forms at once, a missing file, an empty one, a huge one and one that is not text: each names the variable."""
    variable = f"GATEKEY_{name.upper()}"
    others, path = _outside_memory(name), tmp_path / "secret"
    path.write_text("x" * 100, encoding="utf-8")
    twice = problems_of({**others, variable: SECRET_VALUES[name], f"{variable}_FILE": str(path)})
    assert twice == (f"{variable}: is set, and {variable}_FILE too; set one of them",)
    missing = problems_of({**others, f"{variable}_FILE": str(tmp_path / "nothing")})
    assert missing == (f"{variable}_FILE: the file cannot be read (No such file or directory)",)
    for content, problem in (
        (b"", "the file is empty"),
        (b"x" * 70_000, "the file is too large"),
        (b"\xff\xfe" * 40, "must name a file of text in UTF-8"),
    ):
        path.write_bytes(content)
        assert problems_of({**others, f"{variable}_FILE": str(path)}) == (f"{variable}_FILE: {problem}",)


def test_a_secret_of_the_environment_beats_a_file_named_in_the_configuration(tmp_path: Path) -> None:
    """And the other way round: the environment wins, whichever form it uses."""
    path = tmp_path / "secret"
    path.write_text("q" * 40, encoding="utf-8")
    settings = load_settings({"GATEKEY_PEPPER": PEPPER, **with_file(tmp_path, f'pepper_file = "{path}"')})
    assert settings.pepper is not None
    assert settings.pepper.reveal() == PEPPER
    settings = load_settings({"GATEKEY_PEPPER_FILE": str(path), **with_file(tmp_path, f'pepper = "{PEPPER}"')})
    assert settings.pepper is not None
    assert settings.pepper.reveal() == "q" * 40


def test_outside_memory_a_pepper_and_a_secret_key_are_required() -> None:
    """Without them stored keys would be worthless after a restart, or their thief would need nothing else."""
    assert [problem.partition(":")[0] for problem in problems_of({"GATEKEY_STORE_URL": URL})] == [
        "GATEKEY_PEPPER",
        "GATEKEY_SECRET_KEY",
    ]
    settings = load_settings({"GATEKEY_STORE_URL": URL, "GATEKEY_PEPPER": PEPPER, "GATEKEY_SECRET_KEY": KEY})
    assert not settings.in_memory
    assert settings.notes == ()


def test_on_memory_missing_secrets_are_made_up_anew_each_time() -> None:
    """Nothing outlives the process there, so nobody has to think of one."""
    one, other = load_settings({}), load_settings({})
    assert one.secret_key is not None
    assert other.secret_key is not None
    assert one.secret_key.reveal() != other.secret_key.reveal()
    assert not other.make_peppers().match("x", one.make_peppers().hash("x"))


@pytest.mark.parametrize("environ", [{}, {"GATEKEY_WORKERS": "4"}])
def test_one_worker_serves_memory_and_a_note_says_why(environ: dict[str, str]) -> None:
    """Keys in one process cannot be seen by another."""
    settings = load_settings(environ)
    assert settings.worker_count == 1
    assert any("memory://" in note for note in settings.notes)


def test_elsewhere_the_workers_are_those_of_the_setting_or_one_for_each_processor() -> None:
    """The default is the number of processors."""
    environ = {"GATEKEY_STORE_URL": URL, "GATEKEY_PEPPER": PEPPER, "GATEKEY_SECRET_KEY": KEY}
    assert load_settings(environ).worker_count >= 1
    assert load_settings({**environ, "GATEKEY_WORKERS": "7"}).worker_count == 7


def _peppers(*versions: str, length: int = 32) -> str:
    return ",".join(f"{version}:{base64.b64encode(version[:1].encode() * length).decode()}" for version in versions)


def test_peppers_have_versions_and_a_current_one() -> None:
    """New hashes are made with the current pepper, old ones still match; without a word the highest is current."""
    both = load_settings({"GATEKEY_PEPPERS": _peppers("2", "1"), "GATEKEY_PEPPER_CURRENT": "1"}).make_peppers()
    only_one = load_settings({"GATEKEY_PEPPERS": _peppers("1")}).make_peppers()
    highest = load_settings({"GATEKEY_PEPPERS": _peppers("2", "10")}).make_peppers()
    assert both.versions == {1, 2}
    assert both.hash("x").pepper_version == 1
    assert both.match("x", only_one.hash("x"))
    assert highest.hash("x").pepper_version == 10
    single = load_settings({"GATEKEY_PEPPER": PEPPER}).make_peppers()
    assert single.hash("x").pepper_version == 1


def test_a_single_pepper_is_version_1_of_several() -> None:
    """Moving from GATEKEY_PEPPER to GATEKEY_PEPPERS keeps every stored key: the base64 is of the pepper's own bytes."""
    old = load_settings({"GATEKEY_PEPPER": PEPPER}).make_peppers()
    same = base64.b64encode(PEPPER.encode()).decode()
    new = load_settings({"GATEKEY_PEPPERS": f"{_peppers('2')},1:{same}", "GATEKEY_PEPPER_CURRENT": "2"}).make_peppers()
    assert new.match("x", old.hash("x"))
    assert new.hash("x").pepper_version == 2


FORM = "GATEKEY_PEPPERS: must be <version>:<base64 of at least 32 bytes>, separated by commas, each version once"


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"GATEKEY_PEPPER": "x" * 31}, "GATEKEY_PEPPER: must have at least 32 bytes"),
        (
            {"GATEKEY_PEPPER": PEPPER, "GATEKEY_PEPPERS": _peppers("1")},
            "GATEKEY_PEPPER: is set, and GATEKEY_PEPPERS too; set one of them",
        ),
        ({"GATEKEY_PEPPER": PEPPER, "GATEKEY_PEPPER_CURRENT": "1"}, "GATEKEY_PEPPER_CURRENT: needs GATEKEY_PEPPERS"),
        ({"GATEKEY_PEPPER_CURRENT": "1"}, "GATEKEY_PEPPER_CURRENT: needs GATEKEY_PEPPERS"),
        (
            {"GATEKEY_PEPPERS": _peppers("1"), "GATEKEY_PEPPER_CURRENT": "2"},
            "GATEKEY_PEPPER_CURRENT: is none of the versions in GATEKEY_PEPPERS",
        ),
        ({"GATEKEY_PEPPERS": _peppers("1", "1")}, FORM),
        ({"GATEKEY_PEPPERS": _peppers("1", length=31)}, FORM),
        ({"GATEKEY_PEPPERS": _peppers("one")}, FORM),
        ({"GATEKEY_PEPPERS": _peppers("9" * 5000)}, FORM),
        ({"GATEKEY_PEPPERS": "1:not base64!"}, FORM),
        ({"GATEKEY_PEPPERS": "1:ünïcode"}, FORM),
        ({"GATEKEY_PEPPERS": _peppers("1") + ","}, FORM),
        ({"GATEKEY_SECRET_KEY": "x" * 15}, "GATEKEY_SECRET_KEY: must have at least 16 characters"),
        ({"GATEKEY_SECRET_KEY": "\udcff" * 20}, "GATEKEY_SECRET_KEY: must be text in UTF-8"),
    ],
)
def test_bad_peppers_and_keys_are_refused(environ: dict[str, str], problem: str) -> None:
    """Each defect has one text that names the variable."""
    assert problems_of(environ) == (problem,)


# -- as a whole -------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Nobody should have to start the service five times to hear of five mistakes."""
    environ = {
        **with_file(tmp_path, 'nonsense = 1\n[policy.orders]\nmode = "maybe"\n'),
        "GATEKEY_STORE_URL": URL,
        "GATEKEY_PORT": "none",
        "GATEKEY_MODE": "maybe",
        "GATEKEY_WORKRS": "2",
        "GATEKEY_TLS_CERT": str(tmp_path / "missing.pem"),
    }
    assert [problem.partition(":")[0] for problem in problems_of(environ, schemes=["memory"])] == [
        "some.toml",
        "GATEKEY_WORKRS",
        "nonsense in the configuration file",
        "GATEKEY_MODE",
        "GATEKEY_PORT",
        "GATEKEY_PEPPER",
        "GATEKEY_SECRET_KEY",
        "GATEKEY_TLS_CERT",
        "GATEKEY_TLS_CERT",
        "GATEKEY_STORE_URL",
    ]


def test_files_of_tls_belong_together_and_must_be_readable(tmp_path: Path) -> None:
    """A certificate needs its key, clients' certificates need both, and a folder is no file."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.touch()
    key.touch()
    pair = {"GATEKEY_TLS_CERT": str(cert), "GATEKEY_TLS_KEY": str(key)}
    assert load_settings(pair).tls_cert == cert
    for alone in pair:
        assert problems_of({alone: pair[alone]})[0].startswith("GATEKEY_TLS_CERT: needs GATEKEY_TLS_KEY")
    assert problems_of({"GATEKEY_TLS_CLIENT_CA": str(cert)}) == (
        "GATEKEY_TLS_CLIENT_CA: needs GATEKEY_TLS_CERT and GATEKEY_TLS_KEY",
    )
    assert problems_of({**pair, "GATEKEY_TLS_KEY": str(tmp_path)}) == ("GATEKEY_TLS_KEY: the file cannot be read",)


def test_a_configuration_file_that_cannot_be_used_is_named_by_its_variable(tmp_path: Path) -> None:
    """Missing, not UTF-8, or not TOML (with the place, but without the text that stands there)."""
    assert problems_of({"GATEKEY_CONFIG": str(tmp_path / "none.toml")}) == (
        "GATEKEY_CONFIG: the file cannot be read (No such file or directory)",
    )
    assert problems_of(with_file(tmp_path, "port = 1\npepper = unquoted-pepper")) == (
        "GATEKEY_CONFIG: the file is not valid TOML (at line 2, column 10)",
    )
    assert problems_of(with_file(tmp_path, "x = " + "[" * 5000 + "]" * 5000)) == (
        "GATEKEY_CONFIG: the file is nested too deeply",
    )
    (tmp_path / "latin.toml").write_bytes(b'host = "\xff"')
    assert problems_of({"GATEKEY_CONFIG": str(tmp_path / "latin.toml")}) == (
        "GATEKEY_CONFIG: the file is not text in UTF-8",
    )


def test_a_file_called_gatekey_toml_is_found_where_the_command_runs(tmp_path: Path) -> None:
    """GATEKEY_CONFIG is needed only for another name or place."""
    (tmp_path / "gatekey.toml").write_text("port = 4711\n[policy.orders]\n", encoding="utf-8")
    settings = load_settings({})
    assert settings.port == 4711
    assert set(settings.policies) == {"default", "orders"}
    assert settings.config_path == tmp_path / "gatekey.toml"


def test_settings_never_print_their_secrets_and_survive_the_way_to_a_worker() -> None:
    """``repr`` and ``str`` are masked; a worker is handed its settings by pickle."""
    settings = load_settings({"GATEKEY_STORE_URL": URL, "GATEKEY_PEPPER": PEPPER, "GATEKEY_SECRET_KEY": KEY})
    leaks.check(f"{settings!r} {settings} {settings.make_peppers()!r}", "the text of the settings")
    copy = pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own bytes
    assert isinstance(copy, Settings)
    assert copy.pepper is not None
    assert copy.pepper.reveal() == PEPPER
