"""The goals are judged by ratios within one run, and against the best of those that are meant."""

from __future__ import annotations

import pytest

from benchmarks.bench.goals import GOALS, judge
from benchmarks.bench.lineup import CONTENDERS

RATES = {
    "gatekey-door": [20_000.0, 21_000.0, 19_000.0],
    "gatekey-async": [3_000.0, 3_000.0, 3_000.0],
    "gatekey-sync": [4_000.0, 4_000.0, 4_000.0],
    "gatekey-async-one": [1_000.0, 1_000.0, 1_000.0],
    "gatekey-sync-one": [1_400.0, 1_400.0, 1_400.0],
    "flask-granian-1": [1_900.0, 2_000.0, 1_950.0],
    "flask-granian": [1_300.0, 1_300.0, 1_300.0],
    "flask-gthread": [700.0, 700.0, 700.0],
    "keyshield": [2_500.0, 2_500.0, 2_500.0],
    "safe-starlette": [4_100.0, 4_100.0, 4_100.0],
    "nginx-lua": [40_000.0, 41_000.0, 39_000.0],
}


def test_each_goal_is_met_or_not_by_the_ratio_of_the_medians() -> None:
    """20,000 is 10.3 times 1,950, 8 times 2,500, 4.9 times 4,100 and half of 40,000; 3,000 is 0.75 times 4,000."""
    found = {verdict.goal.text: verdict.is_met for verdict in judge(RATES, two_cores=False)}
    assert found == {
        "classic Flask at its best": True,
        "keyshield": True,
        "safe-api-keys on Starlette": False,
        "nginx + Lua": True,
        "the decorator's sync view, by its async view, one caller": False,
        "the same with 32 callers": True,
    }


def test_classic_flask_is_taken_in_its_best_configuration() -> None:
    """Whichever that is in this run."""
    (flask, *_) = judge(RATES, two_cores=False)
    assert flask.rival == "flask-granian-1"
    (flask, *_) = judge({**RATES, "flask-gthread": [5_000.0] * 3}, two_cores=False)
    assert (flask.rival, flask.ratio.median) == ("flask-gthread", 4)


@pytest.mark.parametrize("left_out", ["gatekey-door", "flask-gthread", "nginx-lua"])
def test_nothing_is_said_about_a_goal_whose_contenders_have_no_result(left_out: str) -> None:
    """Also when only one of several configurations is missing: it might have been the best."""
    rates = {name: values for name, values in RATES.items() if name != left_out}
    judged = {verdict.goal.text for verdict in judge(rates, two_cores=False)}
    assert judged == {goal.text for goal in GOALS if left_out not in (goal.ours, *goal.rivals)}


def test_two_workers_are_judged_where_they_have_two_cores() -> None:
    """And only there."""
    rates = {"workers-1": [10.0], "workers-2": [17.0]}
    assert judge(rates, two_cores=False) == []
    (found,) = judge(rates, two_cores=True)
    assert (found.ratio.median, found.is_met) == (1.7, False)


def test_every_goal_names_contenders_that_exist() -> None:
    """A typing error would silence it."""
    for goal in GOALS:
        assert {goal.ours, *goal.rivals} <= set(CONTENDERS)
