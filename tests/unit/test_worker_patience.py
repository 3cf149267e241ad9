"""How soon a worker that has ended is replaced."""

from __future__ import annotations

import pytest

from service.worker_process import Patience

LONG = 3600.0


@pytest.mark.parametrize(
    ("lives", "delays"),
    [
        ([LONG, LONG, LONG], [0, 0, 0]),
        ([10.0, 10.0], [0, 0]),
        ([1.0], [0]),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0, 0.5, 1, 2, 4, 8, 10, 10]),
        ([9.9, 9.9, LONG, 9.9, 9.9], [0, 0.5, 0, 0, 0.5]),
        ([None, None, None, None, None, None, None], [0.5, 1, 2, 4, 8, 10, 10]),
        ([LONG, None, None, LONG, None], [0, 0.5, 1, 0, 0.5]),
        ([1.0, None, None, 1.0], [0, 1, 2, 2]),
    ],
)
def test_who_dies_young_again_and_again_is_replaced_later_and_later(
    lives: list[float | None], delays: list[float]
) -> None:
    """Seconds served (``None``: it could not start), and until the next one; a long life makes good again."""
    patience = Patience()
    assert [patience.after(0, served=served) for served in lives] == delays


def test_workers_do_not_pay_for_each_other() -> None:
    """Each place has a patience of its own."""
    patience = Patience()
    assert [patience.after(idx, served=1.0) for idx in (0, 1, 0, 1)] == [0, 0, 0.5, 0.5]


def test_patience_has_no_end() -> None:
    """A worker that dies for days is still tried every ten seconds."""
    patience = Patience()
    assert [patience.after(0, served=0.1) for _ in range(5000)][-1] == 10
