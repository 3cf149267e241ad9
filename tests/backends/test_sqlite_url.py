"""From a URL to a file, as SQLAlchemy reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.factory import create_store
from backends.sqlite_url import path_of_url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///keys.db", "keys.db"),
        ("sqlite:///data/keys.db", "data/keys.db"),
        ("sqlite:////var/lib/gatekey/keys.db", "/var/lib/gatekey/keys.db"),
        ("sqlite:////with space/é%20#.db", "/with space/é%20#.db"),
        ("sqlite:///keys.db?", "keys.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, path: str) -> None:
    """Nothing in a path is decoded."""
    assert path_of_url(url) == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite:///folder/",
        "sqlite:///:memory:",
        "sqlite://telltale/keys.db",
        "sqlite://telltale:telltale@/keys.db",
        "sqlite:///telltale\0.db",
        "sqlite:///telltale\n.db",
        "sqlite:///keys.db?mode=telltale",
        "sqlite:///keys.db?telltale%20=1",
    ],
)
def test_whatever_names_no_file_is_refused(url: str) -> None:
    """With a message that repeats nothing of it."""
    with pytest.raises(ValueError, match="sqlite://") as caught:
        create_store(url)
    assert "telltale" not in str(caught.value)


@pytest.mark.parametrize("option", ["mode", "timeout", "busy_timeout"])
def test_an_option_is_refused_by_its_name(option: str) -> None:
    """None is ignored in silence."""
    with pytest.raises(ValueError, match=f"the option {option};"):
        create_store(f"sqlite:///keys.db?{option}=1&other=2")


async def test_a_file_named_by_a_relative_url_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the process changes its folder later."""
    monkeypatch.chdir(tmp_path)
    store = create_store("sqlite:///keys #%.db")
    monkeypatch.chdir("/")
    await store.open()
    await store.ping()
    await store.close()
    assert names(tmp_path) == {"keys #%.db", "keys #%.db.history"}


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}
