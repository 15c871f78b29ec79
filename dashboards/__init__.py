"""What people look at: a Grafana dashboard as code, Prometheus rules with their tests, and runbooks.

Imported by nothing of the product. Run from the root of the repository.
"""
