"""The container's health check finds the service wherever the settings say that it listens."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from service.healthcheck import is_alive
from service.settings import load_settings
from tests.support.processes import serving
from tests.support.servers import ROOT, clean_environment, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certificates import Authority


def assert_tells_life_from_death(env: dict[str, str]) -> None:
    settings = load_settings(env)
    assert not is_alive(settings)
    with serving("--demo", env=env):
        assert is_alive(settings)
    assert not is_alive(settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104 - as in a container
def test_on_a_port(host: str) -> None:
    """A service on one address, on all of them, and on a name."""
    assert_tells_life_from_death({"GATEKEY_HOST": host, "GATEKEY_PORT": str(free_port())})


def test_on_a_unix_socket(folder: Path) -> None:
    """A service on ``GATEKEY_UDS``."""
    assert_tells_life_from_death({"GATEKEY_UDS": str(folder / "s")})


def test_over_tls(authority: Authority) -> None:
    """A certificate for whatever name does not matter."""
    certificate, key = authority.issue("server", alternative="DNS:gatekey.example.com")
    env = {"GATEKEY_TLS_CERT": str(certificate), "GATEKEY_TLS_KEY": str(key), "GATEKEY_PORT": str(free_port())}
    assert_tells_life_from_death(env)


def test_with_client_certificates(authority: Authority) -> None:
    """Where a client certificate is wanted, an accepted connection must do."""
    certificate, key = authority.issue("server")
    env = {
        "GATEKEY_TLS_CERT": str(certificate),
        "GATEKEY_TLS_KEY": str(key),
        "GATEKEY_TLS_CLIENT_CA": str(authority.ca),
        "GATEKEY_PORT": str(free_port()),
    }
    assert_tells_life_from_death(env)


@pytest.mark.parametrize("env", [{}, {"GATEKEY_WORKERS": "many"}], ids=["nobody listens", "wrong settings"])
def test_as_a_command_it_fails_in_silence(env: dict[str, str]) -> None:
    """Exit status 1 and no output, also where the settings are wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "service.healthcheck"],
        env={**clean_environment(), "GATEKEY_PORT": str(free_port()), **env},
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
