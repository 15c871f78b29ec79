"""Dashboards as code: a module builds each one, the JSON beside it is what Grafana imports."""
