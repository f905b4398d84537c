"""The rules that every pod of deploy/kubernetes keeps, which no schema knows: no root, nothing to write on but volumes, no
rights, no token, limits, probes for what runs on, settings and secrets that are there, alerts of all or of none, and names that fit each
other."""

import sys

import yaml

# Where LOGINLAKE_HTTP_TOKEN_FILE of the settings is.
TOKEN_FOLDER = "/run/secrets/loginlake"
# Who posts alerts. `olap serve` does not: nothing that it does can fall behind.
ALERTING = {"realtime", "ingest", "maintain", "index"}


def pods(resource):
    """The pod templates of a resource, and whether they run on."""
    spec = resource.get("spec", {})
    if resource["kind"] in ("Deployment", "StatefulSet"):
        yield spec["template"], True
    if resource["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"], False


def broken(template, runs_on, names):
    spec = template["spec"]
    context = spec.get("securityContext", {})
    yield context.get("runAsNonRoot") is True and context.get("runAsUser", 0) > 0, "runs as root"
    yield context.get("seccompProfile", {}).get("type") == "RuntimeDefault", "no seccomp profile"
    yield spec.get("automountServiceAccountToken") is False, "has a token of the cluster"
    yield spec.get("enableServiceLinks") is False, "names of Services become its settings"
    yield ("ServiceAccount", spec.get("serviceAccountName")) in names, "its service account is not made"
    yield template["metadata"]["labels"].get("app.kubernetes.io/part-of") == "loginlake", "no network policy holds for it"
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    yield all(
        "secret" in volume or "sizeLimit" in volume.get("emptyDir", {}) for volume in volumes.values()
    ), "a volume without a limit"
    for container in spec["containers"]:
        context = container.get("securityContext", {})
        yield context.get("readOnlyRootFilesystem") is True, "its root can be written on"
        yield context.get("allowPrivilegeEscalation") is False, "it can get more rights"
        yield context.get("capabilities", {}).get("drop") == ["ALL"], "it has rights of root"
        yield ":" in container["image"] and not container["image"].endswith(":latest"), "its image is not pinned"
        resources = container.get("resources", {})
        yield {"cpu", "memory"} <= resources.get("requests", {}).keys(), "it asks for no CPU or memory"
        yield "memory" in resources.get("limits", {}), "its memory has no limit"
        yield all(mount["name"] in volumes for mount in container.get("volumeMounts", [])), "a volume is missing"
        for source in container.get("envFrom", []):
            wanted = source.get("configMapRef")
            yield wanted is None or ("ConfigMap", wanted["name"]) in names, "its settings are not made"
        mounts = container.get("volumeMounts", [])
        has_token = any(mount["mountPath"] == TOKEN_FOLDER and mount.get("readOnly") for mount in mounts)
        has_settings = any("configMapRef" in source for source in container.get("envFrom", []))
        yield "ports" not in container or (has_token and has_settings), "it listens, and has no token to ask for"
        secrets = {mount["mountPath"] for mount in mounts if "secret" in volumes.get(mount["name"], {})}
        for variable in container.get("env", []):
            path = variable.get("value", "")
            yield not path.startswith("/run/secrets/") or path.rsplit("/", 1)[0] in secrets, f"{path} is not mounted"
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            ports = [port["name"] for port in container.get("ports", [])]
            yield port in ports if runs_on else probe not in container, f"{probe} does not fit"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        resources = [resource for resource in yaml.safe_load_all(file) if resource]
    names = {(resource["kind"], resource["metadata"]["name"]) for resource in resources}
    labels = [pod["metadata"]["labels"] for resource in resources for pod, _ in pods(resource)]
    found, looked_at = [], 0
    for resource in resources:
        if resource["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = resource["spec"]["scaleTargetRef"]
            name = f"{resource['kind']} {resource['metadata']['name']}"
            scaled = [of for of in resources if (of["kind"], of["metadata"]["name"]) == (target["kind"], target["name"])]
            if not scaled:
                found.append(f"{name}: it scales nothing")
            found += [f"{name}: {target['name']} says a number of replicas, too" for of in scaled if "replicas" in of["spec"]]
        if resource["kind"] == "ConfigMap":
            token = resource["data"].get("LOGINLAKE_HTTP_TOKEN_FILE", "")
            if not token.startswith(TOKEN_FOLDER + "/") or "LOGINLAKE_HTTP_ALLOW_REMOTE" in resource["data"]:
                found.append("ConfigMap: the pages are for everybody")
    running = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["spec"]["containers"][0]
        for resource in resources
        for pod, runs_on in pods(resource)
        if runs_on
    }
    with_alerts = {
        name
        for name, container in running.items()
        if any(variable["name"] == "LOGINLAKE_ALERT_WEBHOOK_FILE" for variable in container["env"])
    }
    if with_alerts not in (set(), ALERTING & running.keys()):
        found.append(f"alerts come from {sorted(with_alerts)} only")
    for resource in resources:
        name = f"{resource['kind']} {resource['metadata']['name']}"
        for template, runs_on in pods(resource):
            looked_at += 1
            found += [f"{name}: {what}" for holds, what in broken(template, runs_on, names) if not holds]
        runs_several = resource["kind"] in ("Deployment", "StatefulSet") and resource["spec"].get("replicas") != 1
        budgets = [
            of["spec"]["selector"]["matchLabels"] for of in resources if of["kind"] == "PodDisruptionBudget"
        ]
        if runs_several and resource["spec"]["selector"]["matchLabels"] not in budgets:
            found.append(f"{name}: all of its pods may be taken away at once")
        selector = resource.get("spec", {}).get("selector", {})
        if resource["kind"] == "PodDisruptionBudget":
            selector = selector["matchLabels"]
        elif resource["kind"] != "Service":
            continue
        if not any(selector.items() <= of.items() for of in labels):
            found.append(f"{name}: it is about no pod")
    for line in found:
        print(f"error: {sys.argv[1]}: {line}", file=sys.stderr)
    print(f"{looked_at} kinds of pods keep the rules" if not found else f"{len(found)} rules are broken")
    sys.exit(1 if found or looked_at < 3 else 0)


main()
