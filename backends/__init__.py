"""Where keys live: the contract (a Protocol, records, errors) and one module for each technology.

Imports nothing of ``service``.
"""
