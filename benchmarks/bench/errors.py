"""The one way in which a run goes wrong without ending the others."""

__all__ = ["BadRun"]


class BadRun(Exception):
    """What was measured is not to be believed, or nothing was; the text is for the reader of the results."""
