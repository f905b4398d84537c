"""The network policies of deploy/kubernetes let through what the services need, and nothing comes in from elsewhere: for each kind of pod the rules
that hold for it are put together as Kubernetes does, and asked.

usage: network_rules.py MADE
"""

import re
import sys
from urllib.parse import urlsplit

import yaml

# What each kind of pod speaks to besides what its settings name: names, a store or a webhook or an identity provider over HTTPS, a collector of
# traces, a receiver of lineage, a schema registry.
ALWAYS = {("UDP", 53): "names", ("TCP", 53): "names", ("TCP", 443): "HTTPS", ("TCP", 4318): "traces", ("TCP", 5000): "lineage"}
REGISTRY = {("TCP", 8081): "the schema registry"}
JUDGING = {"realtime", "ingest"}
SCHEMES = {"https": 443, "http": 80}
# The namespace of Prometheus, one that is not known, and the label of a namespace that may ask.
MONITORING = {"kubernetes.io/metadata.name": "monitoring"}
STRANGER = {"kubernetes.io/metadata.name": "stranger"}
CLIENTS = {"loginlake/clients": "true"}


def selects(selector, labels):
    if selector.get("matchExpressions"):
        sys.exit("error: matchExpressions are not known here")
    return selector.get("matchLabels", {}).items() <= labels.items()


def has_port(rule, protocol, port):
    """Whether a rule is about a port. Without ports it is about all."""
    return not rule.get("ports") or any(
        of.get("protocol", "TCP") == protocol and of["port"] <= port <= of.get("endPort", of["port"]) for of in rule["ports"]
    )


class Pod:
    """A kind of pods with the rules that hold for it."""

    def __init__(self, name, template, policies):
        self.name = name
        self.labels = template["metadata"]["labels"]
        self.containers = template["spec"]["containers"]
        of_it = [policy["spec"] for policy in policies if selects(policy["spec"]["podSelector"], self.labels)]
        self.closed = {kind: any(kind in of["policyTypes"] for of in of_it) for kind in ("Ingress", "Egress")}
        self.incoming = [rule for of in of_it if "Ingress" in of["policyTypes"] for rule in of.get("ingress", [])]
        self.outgoing = [rule for of in of_it if "Egress" in of["policyTypes"] for rule in of.get("egress", [])]

    def reaches(self, protocol, port):
        """Anywhere: whom it reaches there is not asked."""
        return any("to" not in rule and has_port(rule, protocol, port) for rule in self.outgoing)

    def is_reached(self, port, labels=None, namespace=None):
        """By pods with these labels of this namespace, or by those of another one with these labels of its own."""
        for rule in self.incoming:
            if not has_port(rule, "TCP", port):
                continue
            for peer in rule.get("from", [{}]):
                of_namespace = peer.get("namespaceSelector")
                inside = of_namespace is None if namespace is None else of_namespace is not None and selects(of_namespace, namespace)
                if "ipBlock" not in peer and inside and selects(peer.get("podSelector", {}), labels or {}):
                    return True
        return False


def ports_of(settings):
    """The ports that settings name, each with the name of the setting."""
    for name, value in settings.items():
        if name.endswith("_BROKERS"):
            for broker in value.split(","):
                yield int(broker.rsplit(":", 1)[1]), name
        elif re.match(r"https?://", value):
            address = urlsplit(value)
            yield address.port or SCHEMES[address.scheme], name


def broken(pod, settings):
    yield pod.closed["Ingress"] and pod.closed["Egress"], "no policy closes it"
    needs = ALWAYS | (REGISTRY if pod.labels["app.kubernetes.io/component"] in JUDGING else {})
    for (protocol, port), what in needs.items():
        yield pod.reaches(protocol, port), f"does not reach {what} ({protocol} {port})"
    for container in pod.containers:
        own = {of["name"]: of["value"] for of in container.get("env", []) if "value" in of}
        for port, setting in ports_of(settings | own):
            yield pod.reaches("TCP", port), f"does not reach {setting} (port {port})"
        for port in container.get("ports", []):
            number, what = port["containerPort"], f"{port['name']} ({port['containerPort']})"
            yield pod.is_reached(number, labels={"app": "neighbour"}), f"{what} is closed to its own namespace"
            yield not pod.is_reached(number, namespace=STRANGER), f"{what} is open to every namespace"
            if port["name"] == "http":
                yield pod.is_reached(number, namespace=MONITORING), f"{what} is closed to Prometheus"
            if pod.labels["app.kubernetes.io/component"] == "serve":
                yield pod.is_reached(number, namespace=CLIENTS), f"{what} is closed to clients"
    yield not pod.reaches("TCP", 22), "reaches everything"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        resources = [resource for resource in yaml.safe_load_all(file) if resource]
    policies = [resource for resource in resources if resource["kind"] == "NetworkPolicy"]
    settings = {}
    for resource in resources:
        settings |= resource["data"] if resource["kind"] == "ConfigMap" else {}
    pods = []
    for resource in resources:
        spec = resource.get("spec", {})
        if resource["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if resource["kind"] in ("Deployment", "StatefulSet", "CronJob"):
            pods.append(Pod(f"{resource['kind']} {resource['metadata']['name']}", spec["template"], policies))
    found = [f"{pod.name}: {what}" for pod in pods for holds, what in broken(pod, settings) if not holds]
    # What a service sends to is open at the pods behind it, and Prometheus is told the right port.
    listening = {
        (port["name"], port["containerPort"], pod.labels["app.kubernetes.io/component"])
        for pod in pods
        for container in pod.containers
        for port in container.get("ports", [])
    }
    for resource in resources:
        if resource["kind"] != "Service":
            continue
        component = resource["spec"]["selector"]["app.kubernetes.io/component"]
        for port in resource["spec"]["ports"]:
            if (port["targetPort"], port["port"], component) not in listening:
                found.append(f"Service {resource['metadata']['name']}: nobody listens at {port['targetPort']} ({port['port']})")
        scraped = resource["metadata"]["annotations"]["prometheus.io/port"]
        if ("http", int(scraped), component) not in listening:
            found.append(f"Service {resource['metadata']['name']}: Prometheus is told the port {scraped}")
    for line in found:
        print(f"error: {sys.argv[1]}: {line}", file=sys.stderr)
    print(f"{len(pods)} kinds of pods get through" if not found else f"{len(found)} rules are broken")
    sys.exit(1 if found or len(pods) < 3 else 0)


main()
