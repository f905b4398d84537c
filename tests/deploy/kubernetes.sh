#!/usr/bin/env bash
# Checks deploy/kubernetes: what kustomize makes of the base, alone and with each component, is what Kubernetes takes (strict schemas; KEDA's by
# scaled_objects.py), every pod of it keeps the rules of pod_rules.py, the network policies let through what it needs (network_rules.py), and what the
# documents say to kubectl fits it (document_rules.py). Needs no cluster.
#
#   tests/deploy/kubernetes.sh PYTHON FOLDER     a Python with kubernetes-validate; a folder for what is made
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$1
made=$2
top=$here/../..
version=1.33.0
rm -rf "$made"
mkdir -p "$made/as-told"
# The overlay that the head of the base gives as an example, as somebody else would have it.
sed -n '/^#   resources:/,/^#$/s/^#   //p' "$top/deploy/kubernetes/base/kustomization.yaml" |
    sed "s|../path/to/deploy|$(realpath --relative-to "$made/as-told" "$top/deploy")|" >"$made/as-told/kustomization.yaml"
for overlay in "$made/as-told" "$top"/deploy/kubernetes/{base,with-cronjobs,with-autoscale-cpu,with-everything}; do
    folder=$overlay overlay=${overlay##*/}
    kubectl kustomize "$folder" >"$made/$overlay.yaml"
    "$python" "$here/scaled_objects.py" "$made/$overlay.yaml" "$made/$overlay.rest.yaml"
    "$python" -m kubernetes_validate --strict --quiet -k "$version" "$made/$overlay.rest.yaml"
    "$python" "$here/pod_rules.py" "$made/$overlay.yaml"
    "$python" "$here/network_rules.py" "$made/$overlay.yaml"
done
"$python" "$here/document_rules.py" "$made/with-everything.yaml" "$top"/{README.md,docs/*.md,deploy/kubernetes/*/kustomization.yaml}
