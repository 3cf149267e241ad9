"""What a view takes and gives, kept beside the view: the same object steers the request and describes it in ``/openapi.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from service.web.schemas.queries import NoQuery
from service.web.schemas.reading import NoBody

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

__all__ = ["NDJSON", "Operation", "describe", "operation_of"]

NDJSON: Final = "application/x-ndjson"

_View = TypeVar("_View", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method at one address. What is told in words is the view's docstring."""

    tag: str
    scope: str = ""
    """What the caller's key must have; ``""`` for any valid key."""
    answers: Mapping[int, type[BaseModel] | str | None]
    """The good answers: a model, a media type, or nothing."""
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] | str = NoBody
    """A model, or a media type."""
    versioned: bool = False
    """It takes ``If-Match``, of a key that need not be there."""
    idempotent: bool = False
    """It takes ``Idempotency-Key``."""
    refusals: tuple[int, ...] = ()
    """Statuses of failure beyond those that every operation of its kind has."""

    @property
    def body_is_required(self) -> bool:
        """Whether a request without a body cannot be carried out."""
        return isinstance(self.body, str) or any(field.is_required() for field in self.body.model_fields.values())

    def answers_with(self, model: type[BaseModel]) -> bool:
        """Whether a good answer is of this model, or of one made from it."""
        return any(isinstance(answer, type) and issubclass(answer, model) for answer in self.answers.values())


def describe(operation: Operation) -> Callable[[_View], _View]:
    """Keep ``operation`` beside a view."""

    def keep(view: _View) -> _View:
        view.gatekey_operation = operation  # type: ignore[attr-defined]  # functions take attributes
        return view

    return keep


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """What ``describe`` kept beside the view."""
    return getattr(view, "gatekey_operation", None)
