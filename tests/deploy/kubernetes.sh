#!/usr/bin/env bash
# Checks deploy/kubernetes: what kustomize makes of the base, and of the base with CronJobs, is what Kubernetes takes (strict schemas),
# and every pod of it keeps the rules of pod_rules.py. Needs no cluster.
#
#   tests/deploy/kubernetes.sh PYTHON FOLDER     a Python with kubernetes-validate; a folder for what is made
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$1
made=$2
version=1.33.0
rm -rf "$made"
mkdir -p "$made"
for overlay in base with-cronjobs; do
    kubectl kustomize "$here/../../deploy/kubernetes/$overlay" >"$made/$overlay.yaml"
    "$python" -m kubernetes_validate --strict --quiet -k "$version" "$made/$overlay.yaml"
    "$python" "$here/pod_rules.py" "$made/$overlay.yaml"
done
