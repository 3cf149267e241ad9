"""The one table from what the management and the stores raise to what a caller is told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog
from flask import request

from backends.errors import Conflict, NotFound, StoreCorrupt, StoreError, VersionConflict
from service.manage.errors import Forbidden, Invalid
from service.web.answers import ApiError
from service.web.schemas.reading import invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["told_as_http"]

_CORRUPT: Final = "What is stored for this key cannot be read; delete the key."

_log = structlog.get_logger(__name__)


@contextmanager
def told_as_http() -> Iterator[None]:
    """Turn exceptions into ``ApiError``. What is missing and what is another organization's are told in the same words."""
    try:
        yield
    except NotFound:
        raise ApiError(404) from None
    except VersionConflict:
        raise ApiError(412) from None
    except Conflict as error:
        raise ApiError(409, detail=_sentence(error)) from None
    except Invalid as error:
        raise invalid([(error.field, error.problem)]) from None
    except Forbidden as error:
        raise ApiError(403, detail=_sentence(error)) from None
    except StoreCorrupt:
        of_a_key = "key_id" in (request.view_args or {})
        _log.warning("management_failed", endpoint=request.endpoint, error_type="StoreCorrupt")
        raise ApiError(503, detail=_CORRUPT if of_a_key else "") from None
    except StoreError as error:  # unavailable, not ready, closed
        _log.warning("management_failed", endpoint=request.endpoint, error_type=type(error).__name__)
        raise ApiError(503) from None


def _sentence(error: Exception) -> str:
    """Its text (which by contract holds no address, no key and no secret) as a sentence."""
    text = str(error)
    return text[:1].upper() + text[1:].removesuffix(".") + "." if text else ""
