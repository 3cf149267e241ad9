"""The whole stack on one machine, to look at: Gatekey over two stores, a proxy, a small load, Prometheus and Alertmanager.

``prepare`` and ``load`` need nothing but Python's standard library: compose.yaml runs them as scripts in containers.
"""
