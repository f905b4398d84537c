"""A bill of materials (CycloneDX 1.6, JSON) of what is shipped: every crate that gets into one of the binaries, with version, licence,
package URL, the checksum of Cargo.lock, and what it depends on. Development dependencies are not in it.

    python sbom.py FILE     from the workspace in this folder; fetches nothing
"""

import json
import subprocess
import sys
import tomllib

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

SHIPPED = {"loginlake-realtime", "loginlake-olap", "loginlake-generator", "loginlake-demo"}
PLATFORM = "x86_64-unknown-linux-gnu"


def metadata():
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", PLATFORM]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def checksums():
    with open("Cargo.lock", "rb") as file:
        packages = tomllib.load(file)["package"]
    return {(package["name"], package["version"]): package.get("checksum") for package in packages}


def needed(found):
    """The packages that get into a binary, and which others each of them needs."""
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    names = {package["id"]: package["name"] for package in found["packages"]}
    wanted, open_ids = {}, [id for id, name in names.items() if name in SHIPPED]
    while open_ids:
        current = open_ids.pop()
        if current in wanted:
            continue
        # What builds it counts, too: it runs on the machine that makes the binary.
        others = {
            dependency["pkg"]
            for dependency in nodes[current]["deps"]
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
        }
        wanted[current] = others
        open_ids += others
    return wanted


def component(package, checksum):
    name, version = package["name"], package["version"]
    licences = [LicenseFactory().make_from_string(package["license"])] if package["license"] else []
    is_ours = package["source"] is None
    url = PackageURL(type="cargo", name=name, version=version)
    return Component(
        type=ComponentType.APPLICATION if name in SHIPPED else ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=str(url),
        purl=None if is_ours else url,
        licenses=licences,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [],
    )


def main(target):
    found, sums = metadata(), checksums()
    wanted = needed(found)
    packages = {package["id"]: package for package in found["packages"] if package["id"] in wanted}
    components = {
        id: component(package, sums.get((package["name"], package["version"]))) for id, package in packages.items()
    }
    bom = Bom()
    bom.metadata.component = Component(type=ComponentType.APPLICATION, name="loginlake", bom_ref="loginlake")
    for id, one in components.items():
        bom.components.add(one)
        bom.register_dependency(one, [components[other] for other in wanted[id]])
    bom.register_dependency(bom.metadata.component, [one for one in components.values() if one.name in SHIPPED])
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    unlicensed = sorted(package["name"] for package in packages.values() if not package["license"] and not package["license_file"])
    if problem or unlicensed or len(components) < 100:
        sys.exit(f"error: the bill of materials is not right: {problem or unlicensed or len(components)}")
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{target}: {len(components)} crates")


main(sys.argv[1])
