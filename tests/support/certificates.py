"""Certificates made on the spot by the program openssl."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """A certificate authority; its files, and those that it issues, are in ``folder``."""

    def __init__(self, folder: Path, openssl: str) -> None:
        self._openssl = openssl
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._make("req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority of the tests")

    def issue(self, name: str, *, alternative: str = "IP:127.0.0.1") -> tuple[Path, Path]:
        """Certificate and key, signed by this authority."""
        self._make("req", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / "extensions").write_text(f"subjectAltName={alternative}\n")
        sign = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        self.run(*sign, "-out", f"{name}.pem", "-days", "2", "-extfile", "extensions")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _make(self, *arguments: str) -> None:
        self.run(*arguments, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")

    def run(self, *arguments: str) -> None:
        """Run openssl in the folder."""
        done = subprocess.run([self._openssl, *arguments], cwd=self.folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
