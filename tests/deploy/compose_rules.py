"""The rules of docker-compose.yml that no schema knows: images pinned, memory limited, no rights to gain, ports on loopback only, pages closed,
secrets in files only, and every service that runs on looked after. Files that are laid over it, as by `docker compose -f … -f …`, add to its
services and take nothing away.

usage: compose_rules.py COMPOSE OVERLAY...
"""

import re
import sys

import yaml

# The names of variables that would hold a secret itself.
SECRET = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY)$")
# What says `latest`, or nothing.
PINNED = re.compile(r"(:(?!latest)[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$")
# Services of which the image has nothing to look with.
UNWATCHED = {"jaeger"}
# Our services that post alerts. `olap serve` is not one: nothing that it does can fall behind.
ALERTING = {"realtime", "ingest", "maintain", "index"}


def default_of(text):
    """${NAME:-default} with its default in place."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def broken(service, secrets, volumes, name):
    ours = "build" in service
    yield ours or PINNED.search(default_of(service["image"])), "its image is not pinned"
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    yield "memory" in limits, "its memory has no limit"
    yield all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "other machines reach it"
    settings = service.get("environment", {})
    yield not [key for key in settings if SECRET.search(key)], "a secret is in its environment"
    yield set(service.get("secrets", [])) <= secrets, "a secret is not there"
    for value in settings.values():
        if str(value).startswith("/run/secrets/"):
            yield str(value).rsplit("/", 1)[1] in service.get("secrets", []), f"{value} is not mounted"
    named = {mount.split(":")[0] for mount in service.get("volumes", []) if not mount.startswith(".")}
    yield named <= volumes, "a volume is not there"
    if ours:
        yield service.get("read_only") is True, "its root can be written on"
        yield service.get("cap_drop") == ["ALL"], "it has rights of root"
        yield "no-new-privileges:true" in service.get("security_opt", []), "it can get more rights"
        listens = not settings.get("LOGINLAKE_HTTP", "127.").startswith("127.")
        yield not listens or "LOGINLAKE_HTTP_TOKEN_FILE" in settings, "its pages ask for no token"
        yield "LOGINLAKE_HTTP_ALLOW_REMOTE" not in settings, "its pages are for everybody"
    if service.get("restart") == "unless-stopped" and "ports" in service and name not in UNWATCHED:
        yield "healthcheck" in service, "nobody looks whether it works"


def load(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def laid_over(compose, overlay):
    """Both together. An overlay may only add secrets and variables to services that are there."""
    services = {name: dict(service) for name, service in compose["services"].items()}
    for name, added in overlay["services"].items():
        if name not in services or not added.keys() <= {"secrets", "environment"}:
            sys.exit(f"error: {name} is not there, or something else than secrets and variables is added to it")
        service = services[name]
        service["secrets"] = service.get("secrets", []) + added.get("secrets", [])
        service["environment"] = service.get("environment", {}) | added.get("environment", {})
    return compose | {"services": services, "secrets": compose["secrets"] | overlay.get("secrets", {})}


def main():
    composes = [load(sys.argv[1])]
    for overlay in map(load, sys.argv[2:]):
        composes.append(laid_over(composes[0], overlay))
    found = []
    for path, compose in zip(sys.argv[1:], composes, strict=True):
        services, secrets, volumes = compose["services"], set(compose["secrets"]), set(compose["volumes"])
        found += [
            f"{path}: {name}: {what}"
            for name, service in services.items()
            for holds, what in broken(service, secrets, volumes, name)
            if not holds
        ]
        profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
        if not {"observability", "search"} <= profiles:
            found.append(f"{path}: the profiles are {sorted(profiles)}")
        alerting = {
            name
            for name, service in services.items()
            if "LOGINLAKE_ALERT_WEBHOOK_FILE" in service.get("environment", {})
        }
        if alerting not in (set(), ALERTING):
            found.append(f"{path}: alerts come from {sorted(alerting)} only")
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    looked_at = len(composes[0]["services"])
    print(f"{looked_at} services keep the rules" if not found else f"{len(found)} rules are broken")
    sys.exit(1 if found or looked_at < 10 else 0)


main()
