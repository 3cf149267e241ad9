"""Pictures of the dashboards: drawn from a real run with Grafana's own panel components, so that people see what they get."""
