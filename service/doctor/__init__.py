"""Probing a deployed proxy from outside: raw requests, answers judged. Knows nothing of Flask, stores or settings."""
