"""What runs in a demo and in which order: stores, Gatekey over each, the proxy, what watches them, and the load."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from demo import recipes

if TYPE_CHECKING:
    import threading

    from demo.parts import Part
    from demo.places import Places
    from demo.programs import Programs
    from demo.state import State

__all__ = ["Stack"]

_PATIENCE: Final = 60.0  # seconds that a part may take until it is ready


class Stack:
    """What was started is written into the state at once, so that whoever comes after a killed demo can end it."""

    def __init__(self, places: Places, programs: Programs, state: State) -> None:
        self._places = places
        self._programs = programs
        self._state = state
        self._parts: list[Part] = []

    def addresses(self) -> dict[str, str]:
        """Where people look."""
        names = ["gatekey", "gatekey-valkey", "docs", "prometheus"]
        names += ["alertmanager"] if self._programs.alertmanager is not None else []
        sites = {name: self._places.url(name, "/orders") for name in ("site", "valkey-site")}
        return {**sites, **{name: self._places.url(name) for name in names}, "logs": str(self._places.folder / "logs")}

    def run(self, stopped: threading.Event) -> None:
        """Start everything, one after the other; returns when all are ready or ``stopped`` is set."""
        places, programs = self._places, self._programs
        recipes.configurations(places, alerted=programs.alertmanager is not None)
        self._begin(stopped, recipes.postgres(places, programs.postgres), recipes.valkey(places, programs.valkey))
        if not stopped.is_set():
            with ThreadPoolExecutor() as both:
                list(both.map(lambda service: recipes.fill(places, service), recipes.GATEKEYS))
        self._begin(stopped, *(recipes.gatekey(places, service) for service in recipes.GATEKEYS))
        if programs.alertmanager is not None:
            self._begin(stopped, recipes.alertmanager(places, programs.alertmanager))
        self._begin(stopped, recipes.caddy(places, programs.caddy), recipes.prometheus(places, programs.prometheus))
        self._begin(stopped, recipes.load(places))

    def check(self) -> None:
        """Fails when a part has ended by itself."""
        for part in self._parts:
            part.check()

    def stop(self) -> None:
        """End all parts, the last one first."""
        while self._parts:
            self._parts.pop().stop()

    def _begin(self, stopped: threading.Event, *parts: Part) -> None:
        for part in parts:
            if stopped.is_set():
                return
            self._parts.append(part)
            part.start()
            self._state.note(self._parts)
            self._state.write(self._places.folder)
        for part in parts:
            part.wait_ready(_PATIENCE, stopped)
