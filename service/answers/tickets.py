"""The ticket that carries a denial through nginx: signed, valid for 10 s, good for nothing but being rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.answers.denial import Denial
from service.answers.signing import SignedValues
from service.auth.reasons import REASONS, Outcome, Reason

if TYPE_CHECKING:
    from service.auth.clock import Clock
    from service.auth.secret import Secret

__all__ = ["Tickets"]

_LIFETIME: Final = 10  # seconds
_MAX_LENGTH: Final = 8192  # what a proxy carries in one header without being told to


class Tickets:
    """Mints and reads tickets."""

    def __init__(self, secret: Secret, *, clock: Clock) -> None:
        self._signed = SignedValues(secret, purpose="gatekey denial", lifetime=_LIFETIME, clock=clock)

    def mint(self, denial: Denial) -> str:
        """The denial as a header value (URL-safe ASCII)."""
        return self._signed.sign(
            [
                denial.reason.value,
                int(denial.browser),
                int(denial.form_post),
                denial.request_id,
                int(denial.credential_presented),
                denial.login_location,
                denial.cors_origin,
            ]
        )

    def read(self, text: str) -> Denial | None:
        """The denial of a ticket that we minted at most 10 s ago, else ``None``; never raises."""
        if not text or len(text) > _MAX_LENGTH:
            return None
        try:
            reason, browser, form_post, request_id, presented, login_location, cors_origin = self._signed.read(text)
            known = Reason(reason)
        except (ValueError, TypeError):  # no ticket, or one of another version of the service
            return None
        if REASONS[known].outcome is Outcome.ALLOW:
            return None  # never minted; a ticket must not become a 2xx whatever happens
        return Denial(
            known,
            browser=bool(browser),
            form_post=bool(form_post),
            request_id=request_id,
            credential_presented=bool(presented),
            login_location=login_location,
            cors_origin=cors_origin,
        )
