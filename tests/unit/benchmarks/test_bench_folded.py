"""Folded stacks become a table of functions."""

from __future__ import annotations

from benchmarks.bench.folded import Function, by_function, parse

FOLDED = """\
main (a.py:1);work (b.py:10) 3
main (a.py:2);work (b.py:11);inner (c.py:5) 5
main (a.py:1);work (b.py:10);work (b.py:12) 2

no count here
"""


def test_functions_are_counted_over_their_lines() -> None:
    """Own time is where the stack ends; recursion counts once in the total."""
    assert by_function(parse(FOLDED)) == [
        Function(name="work (b.py)", own=5, total=10),
        Function(name="inner (c.py)", own=5, total=5),
        Function(name="main (a.py)", own=0, total=10),
    ]


def test_names_with_blanks_and_without_lines_are_read() -> None:
    """As native frames are written."""
    assert by_function(parse("f (a b.py:3);write (libc.so.6) 7\n"))[0] == Function(
        name="write (libc.so.6)", own=7, total=7
    )


def test_nothing_sampled_is_an_empty_table() -> None:
    """And no error."""
    assert by_function(parse("")) == []
