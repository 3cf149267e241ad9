"""What a refusal says, before it is rendered: all that the shared handler (contract 4) needs, and nothing secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.auth.reasons import Reason

__all__ = ["Denial"]


@dataclass(frozen=True, slots=True)
class Denial:
    """One refused request. ``login_location`` is set where a browser may be sent to sign in (then it is absolute or a path)."""

    reason: Reason
    browser: bool = False
    form_post: bool = False
    request_id: str = ""
    credential_presented: bool = False
    login_location: str = ""
    cors_origin: str = ""
