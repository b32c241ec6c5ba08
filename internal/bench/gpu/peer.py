#!/usr/bin/env python3
"""transformers + peft on the same card, as a peer of `bench lm`: a random Qwen2 or Llama of a given shape in bfloat16,
LoRA on all linear layers, SDPA attention, right-padded batches of plain sequences, generate() for decoding.

  bench    --config FILE --data FILE --kind sft|dpo --batch N --steps N --rank N --threads N
  generate --config FILE --prompt N --new N --batch N --threads N

Data is what `bench lm --export` writes. Steps are those of a user of these libraries: one forward for each sequence,
two for each pair, the loss over the labelled tokens, AdamW, clipping at 1. The reference's log-probabilities of a pair
count as computed before, on both sides. A batch that does not fit is halved into micro-batches, of as equal size as
can be, until it does; the one that fitted is reported. One JSON object is printed.
"""
import argparse
import json
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM


def build(path, device):
    config = AutoConfig.from_pretrained(path if os.path.isdir(path) else os.path.dirname(path))
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, torch_dtype=torch.bfloat16, attn_implementation="sdpa")
    return model.to(torch.bfloat16)


def with_lora(model, rank):
    from peft import LoraConfig, get_peft_model
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                                             target_modules="all-linear"))
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()  # adapters in float32, as ours
    return model


def log_probs(model, sequences, starts, device):
    """Sums and counts of the log-probabilities of each sequence's tokens from its start on."""
    length = max(len(s) for s in sequences)
    ids = torch.zeros(len(sequences), length, dtype=torch.long)
    seen = torch.zeros_like(ids)
    label = torch.zeros(len(sequences), length - 1)
    for i, (s, k) in enumerate(zip(sequences, starts)):
        ids[i, :len(s)] = torch.tensor(s)
        seen[i, :len(s)] = 1
        label[i, k - 1:len(s) - 1] = 1
    ids, seen, label = ids.to(device), seen.to(device), label.to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=seen).logits[:, :-1]
    rows = label.bool()  # float32 copies of labelled rows alone
    nll = F.cross_entropy(logits[rows].float(), ids[:, 1:][rows], reduction="none")
    sums = torch.zeros(len(sequences), device=device)
    return sums.index_add(0, rows.nonzero()[:, 0], -nll), label.sum(-1)


def loss_of(model, rows, kind, beta, whole, device):
    """This micro-batch's share of the batch's mean; whole is the batch's count of labels or pairs."""
    if kind == "sft":
        sums, _ = log_probs(model, [r["ids"] for r in rows], [r["loss_from"] for r in rows], device)
        return -sums.sum() / whole
    sequences = [r["prompt"] + r[k] for r in rows for k in ("chosen", "rejected")]
    sums, _ = log_probs(model, sequences, [len(r["prompt"]) for r in rows for _ in range(2)], device)
    return -F.logsigmoid(beta * (sums[0::2] - sums[1::2])).sum() / whole


def tokens_of(r):
    return len(r["ids"]) if "ids" in r else 2 * len(r["prompt"]) + len(r["chosen"]) + len(r["rejected"])


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def step(model, optimizer, parameters, rows, micro, a, device):
    whole = len(rows) if a.kind == "dpo" else sum(len(r["ids"]) - r["loss_from"] for r in rows)
    total = 0.0
    optimizer.zero_grad(set_to_none=True)
    for i in range(0, len(rows), micro):
        loss = loss_of(model, rows[i:i + micro], a.kind, a.beta, whole, device)
        loss.backward()
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    synchronize(device)
    return float(total)


def bench(a, device):
    model = build(a.config, device)
    if a.rank:
        model = with_lora(model, a.rank)
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=a.lr)
    with open(a.data) as f:
        rows = [json.loads(line) for line in f]
    batches = [[rows[(i * a.batch + j) % len(rows)] for j in range(a.batch)] for i in range(a.steps + 1)]
    micro = a.batch
    while True:  # the longest batch says which micro-batch fits
        try:
            longest = max(batches, key=lambda b: max(tokens_of(r) for r in b))
            step(model, optimizer, parameters, longest, micro, a, device)
            break
        except torch.cuda.OutOfMemoryError:
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            if micro == 1:
                raise
            micro = (micro + 1) // 2
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times, loss = [], 0.0
    for i, batch in enumerate(batches):
        start = time.time()
        loss = step(model, optimizer, parameters, batch, micro, a, device)
        if i:  # the first step warms up
            times.append(time.time() - start)
    samples, tokens = a.batch * len(times), sum(tokens_of(r) for b in batches[1:] for r in b)
    return {"kind": a.kind, "rank": a.rank, "batch": a.batch, "micro_batch": micro, "steps": a.steps, "seconds": sum(times),
            "samples_per_second": samples / sum(times), "tokens_per_second": tokens / sum(times),
            "median_step": sorted(times)[len(times) // 2], "loss": loss}


def generate(a, device):
    model = build(a.config, device).eval()
    ids = torch.randint(0, model.config.vocab_size, (a.batch, a.prompt), device=device)
    seen = torch.ones_like(ids)

    def once(new):
        synchronize(device)
        start = time.time()
        with torch.no_grad():
            out = model.generate(input_ids=ids, attention_mask=seen, max_new_tokens=new, min_new_tokens=new, do_sample=True,
                                 temperature=1.0, top_k=0, top_p=1.0, use_cache=True, pad_token_id=0, eos_token_id=None)
        synchronize(device)
        assert out.shape[1] == a.prompt + new, out.shape
        return time.time() - start

    once(a.new)
    whole, first = sorted(once(a.new) for _ in range(3))[1], sorted(once(1) for _ in range(3))[1]
    return {"batch": a.batch, "prompt": a.prompt, "new": a.new, "new_tokens_per_second": a.batch * a.new / whole,
            "prefill_tokens_per_second": a.batch * a.prompt / first,
            "decode_tokens_per_second": a.batch * (a.new - 1) / max(whole - first, 1e-9)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("verb", choices=["bench", "generate"])
    p.add_argument("--config", required=True)
    p.add_argument("--data")
    p.add_argument("--kind", choices=["sft", "dpo"])
    for name, value in dict(batch=8, steps=5, rank=16, threads=2, prompt=64, new=64).items():
        p.add_argument("--" + name, type=int, default=value)
    p.add_argument("--beta", type=float, default=0.2)
    p.add_argument("--lr", type=float, default=1e-4)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = bench(a, device) if a.verb == "bench" else generate(a, device)
    out.update(verb=a.verb, device=torch.cuda.get_device_name() if device == "cuda" else "cpu", torch=torch.__version__,
               peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    if device == "cuda":
        out["peak_device_mb"] = torch.cuda.max_memory_allocated() >> 20
    json.dump(out, sys.stdout)
    print()


if __name__ == "__main__":
    main()
