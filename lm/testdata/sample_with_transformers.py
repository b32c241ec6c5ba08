"""Reads cases of sampling, a JSON list on standard input, and prints the probability of every token after the logits
processors of the installed transformers, in the order of its generate: a JSON list of lists."""
import json, sys
import torch
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

answers = []
for c in json.load(sys.stdin):
    ids, scores = torch.tensor([c["Tokens"]]), torch.tensor([c["Logits"]], dtype=torch.float32)
    processors = [RepetitionPenaltyLogitsProcessor(float(c["Penalty"])), TemperatureLogitsWarper(float(c["Temperature"]))]
    if c["TopK"]:
        processors.append(TopKLogitsWarper(c["TopK"]))
    if c["TopP"] < 1:
        processors.append(TopPLogitsWarper(c["TopP"]))
    for p in processors:
        scores = p(ids, scores)
    answers.append(torch.softmax(scores.double(), -1)[0].tolist())
print(json.dumps(answers))
