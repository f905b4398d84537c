#!/usr/bin/env bash
# Checks deploy/systemd: each unit and timer is one that systemd takes, with and without alerts.conf, and each service gives away at most what the
# limit says (systemd-analyze's exposure, 0 to 10). Starts nothing; the binaries need not be installed.
#
#   tests/deploy/systemd.sh FOLDER     a folder for copies of the units
set -euo pipefail

# Ten times the exposure.
limit=20
units=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../deploy/systemd" && pwd)
copies=$1
rm -rf "$copies"
mkdir -p "$copies"
cp -r "$units"/. "$copies"
# A command that is there stands for ours.
sed -i 's|/usr/local/bin/[a-z]*|/bin/true|' "$copies"/*.service
cd "$copies"
# A template is checked as an instance.
for template in *@.service; do mv "$template" "${template%@.service}@8090.service"; done
export SYSTEMD_UNIT_PATH="$copies:"

# What it says about units of the system is not ours.
verify() {
    local said
    if ! said=$(systemd-analyze verify --man=no ./*.service ./*.timer 2>&1) || grep -E 'loginlake' <<<"$said"; then
        printf '%s\n' "$said" >&2
        echo "error: systemd does not take the units of deploy/systemd $1: see above" >&2
        exit 1
    fi
}

verify "as they are"
cp alerts.conf loginlake-.service.d/20-alerts.conf
verify "with alerts.conf"
for service in *.service; do
    systemd-analyze security --offline=true --threshold="$limit" --no-pager "$PWD/$service" >"$service.security" || {
        cat "$service.security" >&2
        echo "error: $service gives away more than $limit: see above" >&2
        exit 1
    }
    tail -n 1 "$service.security"
done
