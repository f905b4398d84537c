"""What the documents and the heads of deploy/kubernetes tell people to type into kubectl fits what kustomize makes: workloads have these names,
folders are there, each Secret that has to be made by hand is one that pods take, by its name and its keys, and each one that they take is told of.

usage: document_rules.py MADE DOCUMENT...      MADE: of the overlay that has every component
"""

import pathlib
import re
import shlex
import subprocess
import sys

import yaml

# Taken if it is there: a role of the cloud is better.
OPTIONAL = {"loginlake-s3"}


def commands(text):
    """Lines of kubectl in a document or in comments, continued ones joined."""
    text = text.replace("\\\n", " ")
    return re.findall(r"^(?:#\s{2,}| {4,})(kubectl .*)$", text, flags=re.MULTILINE)


def taken(resources):
    """Secret → the keys that are named by paths of settings or by variables."""
    secrets = {}
    settings = {}
    for resource in resources:
        settings |= resource["data"] if resource["kind"] == "ConfigMap" else {}
    for resource in resources:
        if resource["kind"] not in ("Deployment", "StatefulSet"):
            continue
        spec = resource["spec"]["template"]["spec"]
        container = spec["containers"][0]
        paths = list(settings.values()) + [of.get("value", "") for of in container["env"]]
        for source in container["envFrom"]:
            if "secretRef" in source:
                secrets.setdefault(source["secretRef"]["name"], set())
        folders = {of["name"]: of["mountPath"] + "/" for of in container["volumeMounts"]}
        for volume in spec["volumes"]:
            if "secret" in volume:
                folder = folders[volume["name"]]
                keys = {path.removeprefix(folder) for path in paths if path.startswith(folder)}
                secrets.setdefault(volume["secret"]["secretName"], set()).update(keys)
    return secrets


def main():
    made, *documents = map(pathlib.Path, sys.argv[1:])
    top = pathlib.Path(__file__).parents[2]
    resources = [resource for resource in yaml.safe_load_all(made.read_text(encoding="utf-8")) if resource]
    names = {f"{resource['kind']}/{resource['metadata']['name']}".lower() for resource in resources}
    secrets = taken(resources)
    found, told, looked_at = [], set(), 0
    for document in documents:
        for command in commands(document.read_text(encoding="utf-8")):
            looked_at += 1
            words = shlex.split(command.split(" | ")[0].replace("$(", "").replace(")", ""), comments=True)
            for word in words:
                if "/" not in word or word.startswith(("your/", "-")):
                    continue
                if not (top / word).exists() and word.lower() not in names:
                    found.append(f"{document}: `{command}`: there is no {word}")
            if words[1:4] == ["create", "secret", "generic"]:
                secret = words[4]
                told.add(secret)
                keys = set(re.findall(r"--from-(?:literal|file)=([^=\s]+)=", command))
                if secrets.get(secret) != keys:
                    found.append(f"{document}: {secret} with {sorted(keys)}: pods take {secrets.get(secret)}")
                # kubectl itself: is that a command, and a name that a Secret may have?
                literal = [word for word in words if not word.startswith("--from-")]
                subprocess.run([*literal, "--from-literal=key=value", "--dry-run=client", "-o", "name"], check=True, stdout=subprocess.DEVNULL)
    for secret in secrets.keys() - told - OPTIONAL:
        found.append(f"no document says how {secret} is made")
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    print(f"{looked_at} commands for kubectl fit" if not found else f"{len(found)} rules are broken")
    sys.exit(1 if found or looked_at < 6 else 0)


main()
