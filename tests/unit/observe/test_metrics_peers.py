"""Workers and their parent putting a scrape together, over the real sockets: who is silent, who ends, who talks nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.observe.admin import AdminServer
from service.observe.exposition import Unanswered
from service.observe.peers import Peer
from service.observe.peers_hub import Hub
from service.observe.peers_wire import Link, encode_shape, encode_snapshot
from service.observe.snapshot import Reader
from tests.support.raw_http import request
from tests.support.servers import DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Worker:
    """A worker's metrics, with one thing counted, and its side of the sockets; silent ones say hello and nothing more."""

    def __init__(self, hub: Hub, *, silent: bool = False) -> None:
        self.counter = Counter("gatekey_things", "Things.", registry=None)
        self.counter.inc()
        workers = Gauge("gatekey_workers", "Workers.", registry=None)
        self.gate = threading.Event()  # closed, it keeps the worker from answering
        self.gate.set()
        workers.set_function(lambda: float(self.gate.wait(DEADLINE)))
        self.reader = Reader([self.counter, workers], {})
        self.link = hub.link()
        self.peer = Peer(self.link, self.reader)
        if silent:
            self.say(encode_shape(self.reader.shape) + self.word())
        else:
            self.peer.start()

    def word(self, answers: int = 0) -> bytes:
        return encode_snapshot(self.reader.read(), answers=answers)

    def say(self, data: bytes) -> None:
        self.link.questions.sendall(data)

    def die(self) -> None:
        """As a process that is killed: its side is closed without a word."""
        self.link.questions.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def service(*, speaking: int = 3, silent: int = 0) -> Iterator[tuple[Hub, list[Worker]]]:
    """A parent and its workers, all of which it knows; those who speak come first."""
    hub = Hub(workers=3)
    workers = [Worker(hub, silent=index >= speaking) for index in range(speaking + silent)]
    try:
        wait_until(lambda: told(hub).get("gatekey_things_total") == len(workers), "the parent knows all workers")
        yield hub, workers
    finally:
        for worker in workers:
            worker.peer.close()
            worker.link.close()
        hub.close()


def told(page: Hub | Peer) -> dict[str, float]:
    """The scrape as numbers; empty while there is none."""
    try:
        body, _ = page.render("") if isinstance(page, Hub) else page.page("")
    except Unanswered:
        return {}
    return {sample.name: sample.value for family in parse_text(body.decode()) for sample in family.samples}


def test_whoever_is_scraped_tells_of_all() -> None:
    """The parent and each worker give the same sum, of the moment of the scrape."""
    with service() as (hub, workers):
        for number, worker in enumerate(workers):
            worker.counter.inc(10**number)
            expected = {"gatekey_things_total": 3 + (10 ** (number + 1) - 1) // 9, "gatekey_workers": 3}
            pages: list[Hub | Peer] = [hub, *(each.peer for each in workers)]
            assert [told(page) for page in pages] == [expected] * 4


def test_a_silent_worker_counts_with_its_last_word() -> None:
    """It is waited for no longer than the deadline; only the number of workers tells that it is missing."""
    with service(speaking=2, silent=1) as (hub, workers):
        workers[0].counter.inc()
        assert told(hub) == {"gatekey_things_total": 4, "gatekey_workers": 2}
        assert told(workers[1].peer) == {"gatekey_things_total": 4, "gatekey_workers": 2}


def test_a_worker_that_wakes_up_answers_everything_at_once() -> None:
    """Its answer to the questions that came meanwhile is one, and it is whole again."""
    with service(speaking=2) as (hub, workers):
        workers[1].gate.clear()
        assert [told(hub)["gatekey_workers"] for _ in range(4)] == [1, 1, 1, 1]
        workers[1].counter.inc(5)
        workers[1].gate.set()
        wait_until(lambda: told(hub) == {"gatekey_things_total": 7, "gatekey_workers": 2}, "it is back")
        assert [told(hub)["gatekey_workers"] for _ in range(4)] == [2, 2, 2, 2]


def test_half_an_answer_is_none_until_the_rest_comes() -> None:
    """A worker that is stopped while it speaks does not hold up the others."""
    with service(speaking=1, silent=1) as (hub, workers):
        workers[1].counter.inc(5)
        line = workers[1].word(answers=1)
        workers[1].say(line[:10])
        assert told(hub) == {"gatekey_things_total": 2, "gatekey_workers": 1}
        workers[1].say(line[10:])
        wait_until(lambda: told(hub)["gatekey_things_total"] == 7, "the rest is heard")


def test_a_killed_worker_leaves_what_it_told_last() -> None:
    """The sum does not fall, and does not count it twice when it is replaced."""
    with service(silent=1) as (hub, workers):
        workers[3].counter.inc(5)
        workers[3].say(workers[3].word())
        wait_until(lambda: told(hub)["gatekey_things_total"] == 9, "its word is heard")
        workers[3].die()
        wait_until(lambda: told(hub) == {"gatekey_things_total": 9, "gatekey_workers": 3}, "its end is seen")
        workers.append(Worker(hub))
        wait_until(lambda: told(hub) == {"gatekey_things_total": 10, "gatekey_workers": 4}, "there is a new one")


def test_a_worker_that_ends_hands_over_what_it_counted() -> None:
    """Its last word has what was counted after anybody asked."""
    with service() as (hub, workers):
        workers[0].counter.inc(100)
        workers[0].peer.close()
        wait_until(lambda: told(hub) == {"gatekey_things_total": 103, "gatekey_workers": 2}, "its last word is heard")


def test_the_parent_hears_from_workers_when_nobody_scrapes() -> None:
    """A worker that is killed takes a second's counts with it, not those since the last scrape."""
    with service(silent=1) as (_, workers):
        assert workers[3].link.questions.recv(100).startswith(b"?")


@pytest.mark.parametrize("nonsense", [b"[1]\n", b"{}\n", b"[1,[2,3,4],{}]\n", b"\xff\n", b"[" * 5_000_000])
def test_who_talks_nonsense_is_left_out(nonsense: bytes) -> None:
    """What it told before stays; the others are told as ever."""
    with service(speaking=2, silent=1) as (hub, workers):
        with contextlib.suppress(OSError):  # it may be cut off before all is said
            workers[2].say(nonsense)
        wait_until(lambda: workers[2].link.questions.recv(100) == b"", "it is cut off")
        assert told(hub) == {"gatekey_things_total": 3, "gatekey_workers": 2}


def test_a_worker_that_dies_before_its_first_word_was_never_there() -> None:
    """One that could not start changes nothing."""
    with service() as (hub, workers):
        hub.link().close()
        workers.append(Worker(hub))
        wait_until(lambda: told(hub) == {"gatekey_things_total": 4, "gatekey_workers": 4}, "the others are told")


def test_many_scrapes_at_once_are_all_answered() -> None:
    """Whatever others ask at the same time, over whichever worker."""
    with service() as (_, workers):
        found: list[dict[str, float]] = []
        threads = [threading.Thread(target=lambda peer=worker.peer: found.append(told(peer))) for worker in workers * 8]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [{"gatekey_things_total": 3, "gatekey_workers": 3}] * 24


def test_before_any_worker_has_spoken_there_is_no_scrape() -> None:
    """An empty page would look like a service that has forgotten everything; the parent's own port says 503."""
    hub = Hub(workers=3)
    admin = AdminServer("127.0.0.1", 0, hub)
    try:
        with pytest.raises(Unanswered):
            hub.render("")
        assert request(admin.port, "GET", "/metrics", [("Host", "h")]).status == 503
    finally:
        admin.close()
        hub.close()


def test_a_parent_that_hangs_or_is_gone_is_no_scrape_and_no_wait_for_ever() -> None:
    """A part of the service would look as if its counters had been reset, so a worker never answers with its own alone."""
    entrance, never_read = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    mine, other = socket.socketpair()
    with entrance, never_read, mine, other:
        peer = Peer(Link(questions=mine, entrance=entrance), Reader([], {}))
        with pytest.raises(Unanswered):
            peer.page("")
        never_read.close()
        with pytest.raises(Unanswered):
            peer.page("")


def test_openmetrics_is_given_to_who_asks() -> None:
    """What was asked for reaches the parent, however long it is."""
    with service() as (_, workers):
        body, content_type = workers[0].peer.page("application/openmetrics-text; version=1.0.0")
        assert content_type.startswith("application/openmetrics-text")
        assert body.endswith(b"# EOF\n")
        assert workers[0].peer.page("x" * 100_000 + "\u20ac")[1].startswith("text/plain")
