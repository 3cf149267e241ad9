"""The proxy doors: from a raw request to a decision and its answer, the same under every server."""
