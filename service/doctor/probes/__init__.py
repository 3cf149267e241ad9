"""The list of all probes, in the order in which they run and stand in the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.doctor.probes import answers, context, credentials, doors, echo, keyed, paths, routes

if TYPE_CHECKING:
    from service.doctor.probe import Probe

__all__ = ["PROBES"]

PROBES: Final[tuple[Probe, ...]] = (
    *answers.PROBES,
    *credentials.PROBES,
    *context.PROBES,
    *paths.PROBES,
    *doors.PROBES,
    *routes.PROBES,
    *keyed.PROBES,
    *echo.PROBES,
)
