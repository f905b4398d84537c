"""The questions of a Grafana dashboard as recording rules, for promtool to check: Grafana's own variables replaced by a duration.

usage: panel_rules.py DASHBOARD >RULES
"""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    panels = json.load(file)["panels"]
questions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
if not questions:
    sys.exit(f"{sys.argv[1]} asks nothing")
rules = [
    {"record": f"panel:question:{number}", "expr": question.replace("$__rate_interval", "1m")}
    for number, question in enumerate(questions)
]
# JSON is YAML.
json.dump({"groups": [{"name": "panels", "rules": rules}]}, sys.stdout)
