"""When certificates end, read from real ones, whatever their form, and never made up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from backends.factory import certificate_files
from service.observe.certificates import ends_of
from tests.support.app import built_gatekey
from tests.support.servers import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


NAME = "gatekey_tls_certificate_expiry_timestamp_seconds"


@pytest.fixture
def make(tmp_path: Path, require_all: bool) -> Callable[..., Path]:  # noqa: FBT001 - a fixture, not called
    """Makes a certificate that signs itself and ends after so many days; ``kind`` is its key's."""
    openssl = shutil.which("openssl")
    if openssl is None:
        (pytest.fail if require_all else pytest.skip)("openssl is not installed")

    def make(name: str, days: int, kind: str = "ec") -> Path:
        options = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["rsa:4096"]}[kind]
        path = tmp_path / f"{name}.pem"
        command = [str(openssl), "req", "-x509", "-newkey", *options, "-noenc", "-keyout", str(tmp_path / "key.pem")]
        subprocess.run(
            [*command, "-subj", f"/CN={name}", "-days", str(days), "-out", str(path)],
            check=True,
            capture_output=True,
            timeout=DEADLINE,
        )
        return path

    return make


def told_by_openssl(path: Path) -> float:
    command = ["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE)
    end = re.sub(r"^notAfter=|\s+$", "", done.stdout)
    return datetime.strptime(end, "%Y-%m-%d %H:%M:%SZ").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("days", "kind"),
    [(1, "ec"), (365, "rsa"), (30_000, "ec")],
    ids=["soon", "long lengths", "after 2049, in the other form of time"],
)
def test_the_end_is_the_one_that_openssl_tells(make: Callable[..., Path], days: int, kind: str) -> None:
    """To the second."""
    path = make("server", days, kind)
    assert ends_of({"server": path}) == {"server": told_by_openssl(path)}


@pytest.mark.parametrize(
    ("name", "expected"), [("server", 10), ("store_client", 10), ("client_ca", 20), ("store_ca", 20)]
)
def test_a_chain_ends_with_its_first_and_authorities_with_their_last(
    make: Callable[..., Path], tmp_path: Path, name: str, expected: int
) -> None:
    """A chain with a link that is over is no chain; an old authority beside its successor hurts nobody."""
    ends = {days: make(f"c{days}", days) for days in (10, 20)}
    both = tmp_path / "both.pem"
    both.write_text("Some words\n" + ends[20].read_text() + ends[10].read_text())
    assert ends_of({name: both}) == {name: told_by_openssl(ends[expected])}


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff\xfe no certificate",
        b"-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    ],
    ids=["missing", "empty", "bytes", "hollow", "zeros", "cut off", "no base64"],
)
def test_what_cannot_be_read_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    """The service starts all the same: whoever needs the file says what is wrong with it."""
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    assert ends_of({"server": path, "client_ca": None}) == {}


def test_a_folder_is_no_certificate(tmp_path: Path) -> None:
    """Neither an error."""
    assert ends_of({"store_ca": tmp_path}) == {}


def test_what_never_ends_or_is_too_large_is_not_read(make: Callable[..., Path], tmp_path: Path) -> None:
    """A pipe would hold the start up, and what takes long to look through as well."""
    pipe, large = tmp_path / "pipe", tmp_path / "large.pem"
    os.mkfifo(pipe)
    large.write_bytes(make("server", 9).read_bytes() + bytes(1 << 20))
    assert ends_of({"server": pipe, "client_ca": large}) == {}


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("memory://", set()),
        ("postgresql://h/d?sslmode=verify-full&sslrootcert={file}&sslcert={file}", {"store_ca", "store_client"}),
        ("rediss://h/0?ssl_ca_certs={file}", {"store_ca"}),
        ("plugin://h?sslcert={file}", set()),
    ],
    ids=["none", "postgres", "redis", "another store's option"],
)
def test_a_stores_own_certificates_are_those_that_its_url_names(tmp_path: Path, url: str, names: set[str]) -> None:
    """Percent-encoded as the rest of a URL."""
    file = tmp_path / "a file.pem"
    assert certificate_files(url.format(file=quote(str(file)))) == dict.fromkeys(names, file)


def test_the_service_shows_the_ends_of_its_certificates(make: Callable[..., Path]) -> None:
    """Those that its settings name, on its own page of metrics."""
    server, authority = make("server", 90), make("authority", 900)
    environ = {
        "GATEKEY_TLS_CERT": str(server),
        "GATEKEY_TLS_KEY": str(server.parent / "key.pem"),
        "GATEKEY_TLS_CLIENT_CA": str(authority),
    }
    with built_gatekey(environ=environ) as gatekey:
        lines = gatekey.metrics.render("")[0].decode().splitlines()
    told = {line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith(f"{NAME}{{")}
    assert told == {"server": told_by_openssl(server), "client_ca": told_by_openssl(authority)}
