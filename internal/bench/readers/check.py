#!/usr/bin/env python3
"""Reads an export (`esclab export RUN --out DIR`) with the tools that it is written for, and compares.

  check.py DIR [--esclab PROGRAM]

PEFT       every adapter is put on the exported base by PeftModel.from_pretrained; the log-probabilities of random
           sequences are compared with those of `esclab logprobs`, and with the base's own, from which they must differ
TensorBoard  every event file is read by its EventAccumulator: scalars, steps, last values
transformers the base's tokenizer and the pairs, which its chat template renders

Needs torch, transformers, peft, tensorboard. One line for each thing read; exit code 1 if any does not agree.
"""
import argparse
import glob
import json
import math
import os
import subprocess
import sys
import tempfile

import torch


def log_probs(model, sequences):
    out = []
    with torch.no_grad():
        for s in sequences:
            ids = torch.tensor([s])
            logits = model(input_ids=ids).logits[0, :-1].float()
            out.append(torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0])
    return torch.cat(out)


def ours(program, base, adapter, sequences):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
        for s in sequences:
            f.write(json.dumps({"ids": s}) + "\n")
        f.flush()
        command = [program, "logprobs", "--engine", "go", "--model", base, f.name] + (["--adapter", adapter] if adapter else [])
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    return torch.tensor([x for line in out.splitlines() for x in json.loads(line)["logprobs"]])


def adapters(directory, program):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    base, good = os.path.join(directory, "base"), True
    generator = torch.Generator().manual_seed(1)
    vocabulary = json.load(open(os.path.join(base, "config.json")))["vocab_size"]
    sequences = [torch.randint(3, vocabulary, (n,), generator=generator).tolist() for n in (2, 17, 64, 200)]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    plain = log_probs(model, sequences)
    difference = float((plain - ours(program, base, None, sequences)).abs().max())
    print(f"transformers base: {sum(p.numel() for p in model.parameters()):,} parameters, log-probabilities {difference:.1e} apart")
    good &= difference < 1e-4
    for path in sorted(glob.glob(os.path.join(directory, "adapters", "*"))):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        adapted = PeftModel.from_pretrained(model, path).eval()
        theirs = log_probs(adapted, sequences)
        difference = float((theirs - ours(program, base, path, sequences)).abs().max())
        effect = float((theirs - plain).abs().max())
        print(f"peft {os.path.basename(path)}: {difference:.1e} apart, {effect:.2f} from the base")
        good &= difference < 1e-4 and effect > 1e-3
    return good


def events(directory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    root = os.path.join(directory, "tensorboard")
    good, paths = True, sorted({os.path.dirname(f) for f in glob.glob(os.path.join(root, "**", "events.*"), recursive=True)})
    for path in paths:
        reader = EventAccumulator(path, size_guidance={"scalars": 0})
        reader.Reload()
        curves = {tag: reader.Scalars(tag) for tag in reader.Tags()["scalars"]}
        # Tensors are how newer writers store scalars; the accumulator lists those by another name.
        from tensorboard.util import tensor_util
        for tag in reader.Tags()["tensors"]:
            curves[tag] = [type("E", (), {"step": e.step, "value": float(tensor_util.make_ndarray(e.tensor_proto))}) for e in reader.Tensors(tag)]
        loss = curves.get("train/loss", [])
        steps = [e.step for e in loss]
        finite = all(math.isfinite(e.value) for c in curves.values() for e in c)
        good &= bool(loss) and finite and steps == sorted(set(steps))
        last = f"train/loss {loss[0].value:.4g} to {loss[-1].value:.4g} at step {loss[-1].step}" if loss else "no train/loss"
        print(f"tensorboard {os.path.relpath(path, root)}: {len(curves)} curves, {last}")
    return good and bool(paths)


def pairs(directory):
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(os.path.join(directory, "base"))
    good = True
    for path in sorted(glob.glob(os.path.join(directory, "pairs", "*.jsonl"))):
        rows = [json.loads(line) for line in open(path)]
        for r in rows:
            both = [tokenizer.apply_chat_template(r["prompt"] + r[k], tokenize=True, return_dict=False) for k in ("chosen", "rejected")]
            good &= both[0] != both[1] and r["chosen"][0]["role"] == "assistant"
        print(f"pairs {os.path.basename(path)}: {len(rows)} rendered")
    return good


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--esclab", default="esclab")
    a = p.parse_args()
    good = True
    for check in (lambda d: adapters(d, a.esclab), events, pairs):
        try:
            good &= bool(check(a.directory))
        except Exception as e:  # the others are still of interest
            print(f"{type(e).__name__}: {e}")
            good = False
    print("all agree" if good else "NOT all agree")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
