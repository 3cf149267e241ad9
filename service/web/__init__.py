"""Gatekey's Flask views, its error handler, and the decorator for applications."""
