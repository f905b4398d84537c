#!/usr/bin/env bash
# Checks deploy/kubernetes: what kustomize makes of the base, alone and with each component, is what Kubernetes takes (strict schemas; KEDA's by
# scaled_objects.py), and every pod of it keeps the rules of pod_rules.py. Needs no cluster.
#
#   tests/deploy/kubernetes.sh PYTHON FOLDER     a Python with kubernetes-validate; a folder for what is made
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$1
made=$2
version=1.33.0
rm -rf "$made"
mkdir -p "$made"
for overlay in base with-cronjobs with-autoscale-cpu with-everything; do
    kubectl kustomize "$here/../../deploy/kubernetes/$overlay" >"$made/$overlay.yaml"
    "$python" "$here/scaled_objects.py" "$made/$overlay.yaml" "$made/$overlay.rest.yaml"
    "$python" -m kubernetes_validate --strict --quiet -k "$version" "$made/$overlay.rest.yaml"
    "$python" "$here/pod_rules.py" "$made/$overlay.yaml"
done
