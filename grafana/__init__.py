"""Dashboards as code: what `python -m grafana.build` writes to grafana/json for role grafana.

kit         panels, variables and dashboards that look alike
dashboards  one module for each dashboard
build       writes the JSON
"""
