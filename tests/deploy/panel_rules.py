"""The questions of a Grafana dashboard as recording rules, for promtool to check: Grafana's own variables replaced by a duration.

Before that, the dashboard itself is checked: what Grafana would show wrong, or not at all, is an error.

usage: panel_rules.py DASHBOARD >RULES
"""

import json
import re
import sys

WIDTH = 24
VARIABLES = {"$__rate_interval", "${datasource}"}


def mistakes(dashboard):
    """What is wrong with it, a line each."""
    panels = dashboard["panels"]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", dashboard.get("uid", "")):
        yield "uid: Grafana takes up to 40 letters, digits, _ and -"
    if dashboard.get("schemaVersion", 0) < 36:
        yield "schemaVersion: older than Grafana 9"
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    if names != {"datasource"}:
        yield f"templating: {sorted(names)}"
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        yield "two panels have one id"
    taken = {}
    below = 0
    for panel in panels:
        name = f"panel {panel['id']} ({panel['title']})"
        place = panel["gridPos"]
        if place["x"] + place["w"] > WIDTH or min(place.values()) < 0:
            yield f"{name}: not within the {WIDTH} columns"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    yield f"{name}: lies on {taken[x, y]}"
                    break
                taken[x, y] = name
        if place["y"] < below:
            yield f"{name}: is above the row that it comes after"
        if panel["type"] == "row":
            below = place["y"]
            continue
        if not panel.get("targets"):
            yield f"{name}: asks nothing"
        if "unit" not in panel["fieldConfig"]["defaults"]:
            yield f"{name}: has no unit"
        references = [target["refId"] for target in panel["targets"]]
        if len(set(references)) != len(references):
            yield f"{name}: two questions have one refId"
        for asked in [panel, *panel["targets"]]:
            if asked["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
                yield f"{name}: another data source than the one that is chosen"
        for target in panel["targets"]:
            if not target.get("legendFormat"):
                yield f"{name}: {target['refId']} has no legend"
            for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                if not re.search(rf"\b(by|without) \([^)]*\b{label}\b", target["expr"]) and "sum" in target["expr"]:
                    yield f"{name}: the legend names {label}, and the question leaves it out"
    for variable in re.findall(r"\$(?:\{\w+\}|\w+)", json.dumps(dashboard)):
        if variable not in VARIABLES:
            yield f"nothing gives {variable} a value"


with open(sys.argv[1], encoding="utf-8") as file:
    dashboard = json.load(file)
found = list(dict.fromkeys(mistakes(dashboard)))
if found:
    sys.exit("\n".join(f"{sys.argv[1]}: {line}" for line in found))
questions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
if not questions:
    sys.exit(f"{sys.argv[1]} asks nothing")
rules = [
    {"record": f"panel:question:{number}", "expr": question.replace("$__rate_interval", "1m")}
    for number, question in enumerate(questions)
]
# JSON is YAML.
json.dump({"groups": [{"name": "panels", "rules": rules}]}, sys.stdout)
