"""The decision: credentials, rules, cache and reasons. Knows no HTTP server and no Flask."""
