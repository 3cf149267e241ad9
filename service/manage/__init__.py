"""What operators do with keys and organizations, whichever way they ask: the API, the commands. No HTTP, no Flask here."""
