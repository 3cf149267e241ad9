"""Values that this service signs for itself and hands to strangers: true for one purpose and for a limited time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from itsdangerous import BadData, URLSafeTimedSerializer
from itsdangerous.timed import TimestampSigner

if TYPE_CHECKING:
    from service.auth.clock import Clock
    from service.auth.secret import Secret

__all__ = ["SignedValues"]

_SKEW: Final = 5  # seconds that the clock of the process that signed may be ahead of ours


class SignedValues:
    """Signs JSON values for one ``purpose`` (what another purpose signed is refused) and ``lifetime`` seconds."""

    def __init__(self, secret: Secret, *, purpose: str, lifetime: float, clock: Clock) -> None:
        class ClockedSigner(TimestampSigner):
            def get_timestamp(self) -> int:
                return int(clock.wall())

        self._serializer = URLSafeTimedSerializer(
            secret.reveal(), salt=purpose, signer=ClockedSigner, signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._lifetime = lifetime
        self._clock = clock

    def sign(self, value: Any) -> str:
        """The value as text of unreserved characters (RFC 3986 2.3): it fits a header and a query as it is."""
        return str(self._serializer.dumps(value))

    def read(self, text: str) -> Any:
        """The value, or ``None`` when the text was not signed for this purpose or its time is over; never raises."""
        try:
            value, signed_at = self._serializer.loads(text, return_timestamp=True)
        except (BadData, ValueError):  # ValueError: text that no encoding can write
            return None
        return value if -_SKEW <= self._clock.wall() - signed_at.timestamp() <= self._lifetime else None
