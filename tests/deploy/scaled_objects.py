"""Takes KEDA's objects, which no schema of Kubernetes knows, out of what kustomize made, and checks them: by keda.schema.json, and the
behaviour in them by the schema that Kubernetes has for its own scalers.

usage: scaled_objects.py MADE REST      REST: where everything else is written, and a HorizontalPodAutoscaler for each behaviour
"""

import json
import pathlib
import sys

import jsonschema
import yaml

made, rest = sys.argv[1:]
schema = json.loads(pathlib.Path(__file__).with_name("keda.schema.json").read_text(encoding="utf-8"))
jsonschema.Draft202012Validator.check_schema(schema)
with open(made, encoding="utf-8") as file:
    resources = [resource for resource in yaml.safe_load_all(file) if resource]
scaled = [resource for resource in resources if resource["kind"] == "ScaledObject"]
kept = [resource for resource in resources if resource["kind"] != "ScaledObject"]
for resource in scaled:
    jsonschema.validate(resource, schema)
    spec = resource["spec"]
    # What KEDA makes of it.
    kept.append(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": f"keda-hpa-{resource['metadata']['name']}"},
            "spec": {
                "scaleTargetRef": spec["scaleTargetRef"],
                "minReplicas": spec["minReplicaCount"],
                "maxReplicas": spec["maxReplicaCount"],
                "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
                "metrics": [
                    {
                        "type": "External",
                        "external": {
                            "metric": {"name": "s0-kafka-user-login"},
                            "target": {
                                "type": "AverageValue",
                                "averageValue": trigger["metadata"]["lagThreshold"],
                            },
                        },
                    }
                    for trigger in spec["triggers"]
                ],
            },
        }
    )
with open(rest, "w", encoding="utf-8") as file:
    yaml.safe_dump_all(kept, file)
