"""Writes JSON schemas of kinds of Kubernetes for kubeconform: schemas.py SWAGGER DIRECTORY KIND...

SWAGGER is the OpenAPI description of Kubernetes' API, in which a definition names
its group, version and kind. Fields that it does not have are errors."""

import json
import os
import sys

source, out, *kinds = sys.argv[1:]
with open(source) as f:
    definitions = json.load(f)["definitions"]
for name, d in definitions.items():
    if name.endswith((".IntOrString", ".Quantity")):
        definitions[name] = {"type": ["string", "number"]}
    elif "properties" in d:
        d.setdefault("additionalProperties", False)
os.makedirs(out, exist_ok=True)
for name, d in definitions.items():
    for kind in d.get("x-kubernetes-group-version-kind", []):
        if kind["kind"] in kinds:
            suffix = "-".join(part.split(".")[0] for part in (kind["kind"], kind["group"], kind["version"]) if part)
            with open(os.path.join(out, suffix.lower() + ".json"), "w") as f:
                json.dump({"$ref": "#/definitions/" + name, "definitions": definitions}, f)
