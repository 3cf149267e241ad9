"""From a URL to a store, and third-party stores as they are really installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import pytest

from backends import factory
from backends.errors import StoreError, UnknownScheme
from backends.memory import MemoryKeyStore
from tests.support import leaks
from tests.support.servers import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSWORD = "a-password-in-the-url"
leaks.register(PASSWORD)

THIRD_PARTY = """
from backends.memory import MemoryKeyStore


class ShelfStore(MemoryKeyStore):
    name = "shelf"


def from_url(url):
    store = ShelfStore()
    store.url = url
    return store
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a package with entry points where Python finds it, as an installer would."""

    def install(package: str, source: str, **points: str) -> Path:
        (tmp_path / f"{package}.py").write_text(source, encoding="utf-8")
        metadata = tmp_path / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{scheme.replace('_', '+')} = {target}" for scheme, target in points.items()]
        (metadata / "entry_points.txt").write_text("\n".join([f"[{factory.GROUP}]", *lines, ""]), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        monkeypatch.setattr(factory, "SCHEMES", factory.find_schemes())
        return tmp_path

    return install


def test_memory_is_built_in() -> None:
    """And gives a new store each time."""
    first, second = factory.create_store("memory://"), factory.create_store("memory://")
    assert isinstance(first, MemoryKeyStore)
    assert first is not second


@pytest.mark.parametrize("url", ["memory://host", "memory:///path", "memory://?size=1", f"memory://:{PASSWORD}@"])
def test_memory_takes_nothing_more(url: str) -> None:
    """A path would make somebody believe that keys are kept."""
    with pytest.raises(ValueError, match="memory://") as caught:
        factory.create_store(url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"mysql://user:{PASSWORD}@db.example.com/keys", "mysql"),
        (f"redis+tls://user:{PASSWORD}@db.example.com", "redis+tls"),
        (f"MEMORY://{PASSWORD}", "MEMORY"),
        (f"user:{PASSWORD}@db.example.com", "(none)"),
        (f"redis:{PASSWORD}://db", "(none)"),
        (f"//{PASSWORD}", "(none)"),
        (f"://{PASSWORD}", "(none)"),
        (f"{PASSWORD}{'x' * 32}://db", "(none)"),
        (f"é{PASSWORD}://db", "(none)"),
        (PASSWORD, "(none)"),
        ("", "(none)"),
    ],
)
def test_an_unknown_scheme_is_told_with_the_known_ones(url: str, shown: str) -> None:
    """And nothing of the rest of the URL, which may hold a password."""
    with pytest.raises(UnknownScheme) as caught:
        factory.create_store(url)
    assert str(caught.value) == f"no store for the scheme {shown}; known: {', '.join(sorted(factory.SCHEMES))}"
    assert "memory" in factory.SCHEMES


@pytest.mark.parametrize("scheme", ["memory", "postgresql", "redis", "rediss", "sqlite"])
def test_every_built_in_scheme_has_its_store(scheme: str) -> None:
    """Its module can be loaded, and its driver is installed."""
    assert callable(factory.SCHEMES[scheme]())


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{PASSWORD}@host:port/database",
        f"postgresql://user:{PASSWORD}@host/database?no_such_option={PASSWORD}",
        f"redis://user:{PASSWORD}@host:port/0",
        f"redis://user:{PASSWORD}@host/database",
        f"redis://user:{PASSWORD}@host/0?no_such_option={PASSWORD}",
        f"rediss://user:{PASSWORD}@host:port/0",
        f"sqlite://user:{PASSWORD}@host/keys.db",
        f"sqlite:///{PASSWORD}?no_such_option={PASSWORD}",
    ],
)
def test_a_wrong_url_is_a_mistake_that_is_not_repeated(url: str) -> None:
    """It may hold a password, and the message ends up in a log."""
    with pytest.raises(ValueError, match=r".") as caught:
        factory.create_store(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_driver_is_loaded_only_where_it_is_used() -> None:
    """A process that keeps keys in a file needs no driver for a server in its memory."""
    program = (
        "import sys; from backends.factory import create_store; create_store('memory://');"
        "print([name for name in ('asyncpg', 'redis', 'sqlite3') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "[]\n"


def test_an_installed_package_adds_a_store(install: Callable[..., Path]) -> None:
    """It is given the whole URL; its module is loaded only when its scheme is used."""
    install("shelfstore", THIRD_PARTY, shelf="shelfstore:from_url")
    assert "shelfstore" not in sys.modules
    store = factory.create_store("shelf://here/there?x=1")
    assert store.name == "shelf"
    assert vars(store)["url"] == "shelf://here/there?x=1"
    del sys.modules["shelfstore"]


def test_a_scheme_may_have_a_plus(install: Callable[..., Path]) -> None:
    """As in redis+sentinel."""
    install("plusstore", THIRD_PARTY, shelf_plus="plusstore:from_url")
    assert factory.create_store("shelf+plus://").name == "shelf"
    sys.modules.pop("plusstore")


def test_a_package_cannot_replace_a_built_in_store(install: Callable[..., Path]) -> None:
    """Keys must not land in a stranger's store."""
    install("thiefstore", THIRD_PARTY, memory="thiefstore:from_url")
    assert type(factory.create_store("memory://")) is MemoryKeyStore


def test_an_installed_package_adds_a_store_to_the_service(install: Callable[..., Path]) -> None:
    """Seen by a new process, as by ``gatekey serve``."""
    folder = install("otherstore", THIRD_PARTY, shelf="otherstore:from_url")
    program = "from backends.factory import create_store; print(create_store('shelf://x').name)"
    environment = {**clean_environment(), "PYTHONPATH": f"{ROOT}:{folder}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "shelf\n"


@pytest.mark.parametrize(
    ("package", "source", "target", "told"),
    [
        ("brokenone", f"raise RuntimeError('{PASSWORD}')", "brokenone:from_url", "in the package brokenone cannot be"),
        (
            "brokentwo",
            "import no_such_module_at_all",
            "brokentwo:from_url",
            "in the package brokentwo cannot be loaded",
        ),
        ("brokenthree", "", "brokenthree:from_url", "in the package brokenthree cannot be loaded"),
        ("brokenfour", "from_url = None", "brokenfour:from_url", "is no callable"),
    ],
    ids=["raises", "needs what is missing", "lacks the object", "is no callable"],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(
    install: Callable[..., Path], package: str, source: str, target: str, told: str
) -> None:
    """Only who asks for its scheme is told."""
    install(package, source, broken=target)
    with pytest.raises(StoreError, match=told) as caught:
        factory.create_store(f"broken://user:{PASSWORD}@host")
    assert PASSWORD not in str(caught.value)
    assert isinstance(factory.create_store("memory://"), MemoryKeyStore)
    sys.modules.pop(package, None)


def test_a_broken_entry_point_without_a_package_is_told_by_its_object() -> None:
    """An entry point made by hand has no distribution."""
    point = EntryPoint("odd", "no_such_module:from_url", factory.GROUP)
    with pytest.raises(StoreError, match="in the package no_such_module:from_url cannot be loaded"):
        factory._plugin(point)()


def test_the_projects_own_entry_point_is_what_it_says() -> None:
    """pyproject.toml names the memory store as any other package would."""
    own = [point for point in entry_points(group=factory.GROUP) if point.name == "memory"]
    for point in own:
        assert point.load() == MemoryKeyStore.from_url


def test_a_store_without_a_way_of_its_own_for_announcements_refuses_a_listen_url() -> None:
    """And tells neither URL."""
    with pytest.raises(ValueError, match=r"^memory:// takes no listen URL of its own$"):
        factory.create_store("memory://", listen_url="memory://elsewhere")
