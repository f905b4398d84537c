"""The rules of docker-compose.yml that no schema knows: images pinned, memory limited, no rights to gain, ports on loopback only, secrets in
files only, and every service that runs on looked after.

usage: compose_rules.py COMPOSE
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
    if service.get("restart") == "unless-stopped" and "ports" in service and name not in UNWATCHED:
        yield "healthcheck" in service, "nobody looks whether it works"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        compose = yaml.safe_load(file)
    services, secrets, volumes = compose["services"], set(compose["secrets"]), set(compose["volumes"])
    found = [
        f"{name}: {what}"
        for name, service in services.items()
        for holds, what in broken(service, secrets, volumes, name)
        if not holds
    ]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    if not {"observability", "search"} <= profiles:
        found.append(f"the profiles are {sorted(profiles)}")
    for line in found:
        print(f"error: {sys.argv[1]}: {line}", file=sys.stderr)
    print(f"{len(services)} services keep the rules" if not found else f"{len(found)} rules are broken")
    sys.exit(1 if found or len(services) < 10 else 0)


main()
