"""What ../recipe/inference.py reads and encodes: python recipe.py FOLDER_OF_THE_SCRIPT < asked.json"""
import json
import sys

sys.path.insert(0, sys.argv[1])
import inference
from transformers import AutoTokenizer

asked = json.load(sys.stdin)
reads = inference.Strategies(asked["recipe"])
tokenizers, encoders, ids = {}, {}, []
for p in asked["prompts"]:
    key = p["tokenizer"], p["system"]
    if key[0] not in tokenizers:
        tokenizers[key[0]] = AutoTokenizer.from_pretrained(key[0])
    if key not in encoders:
        encoders[key] = inference.Prompts(tokenizers[key[0]], asked["recipe"], asked["recipe"]["systems"][p["system"]])
    ids.append(encoders[key].ids(p["role"], p["context"], p["strategy"], reserve=p["reserve"]))
answer = {"ids": ids, "reads": [[reads.read(role, text) for text in asked["texts"]] for role in ("vm", "sp", "rg")]}
answer["ends"] = {key[0]: encoder.end_of_turn() for key, encoder in encoders.items()}
json.dump(answer, sys.stdout)
