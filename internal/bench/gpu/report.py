#!/usr/bin/env python3
"""Turns what run.sh measured into report.md and report.json. Python's standard library alone.

  report.py DIR --peak FLOPS --names NAME...   MFU is the model's operations a second (bench lm's formula) over FLOPS
"""
import argparse
import json
import os
import re


def read(path):
    try:
        with open(path) as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


def memory(path, name):
    """The most MiB of the card that ours held during a measurement; None where it was not sampled."""
    most, current = None, None
    if not os.path.exists(path):
        return None
    with open(path) as f:
        for line in f:
            if line.startswith("name "):
                current = line.split()[1]
                continue
            m = re.match(r".*esclab-worker,\s*(\d+)", line)
            if m and current == name:
                most = max(most or 0, int(m.group(1)))
    return most


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(r) + " |" for r in rows]


def number(x, unit=""):
    if x is None:
        return "–"
    return (f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}") + unit


def report(directory, peak, names):
    result, text = {"peak": peak, "measured": {}}, ["# On a GPU", ""]
    device = os.path.join(directory, "device.csv")
    if os.path.exists(device):
        with open(device) as f:
            text += [f.read().strip().splitlines()[-1], ""]
    training, decoding, failed = [], [], []
    for name in names:
        bench = read(os.path.join(directory, name + ".json"))
        if bench is None:
            failed.append(name)
            continue
        most = memory(os.path.join(directory, "memory.csv"), name)
        entry = {"engine": bench["engine"], "dtype": bench["dtype"], "parameters": bench["parameters"], "peak_device_mib": most,
                 "without": bench.get("without") or [], "peak_flops_measured": bench.get("peak_flops"), "training": [],
                 "decoding": bench.get("decoding") or []}
        beside = {(b["workload"], b["packing"]): b for b in bench.get("beside") or []}
        for t in bench["training"]:
            b = beside.get((t["workload"], t["packing"]))
            row = {"workload": t["workload"], "packing": t["packing"], "samples_per_second": t["samples_per_second"],
                   "tokens_per_second": t["tokens_per_second"], "tokens_unpacked_per_second": t["tokens_unpacked_per_second"],
                   "mfu": t["flops"] / peak, "compile_seconds": t["compile_seconds"],
                   "peer_samples_per_second": b and b["peer"]["median"], "ratio": b and b["ratio"]["median"]}
            entry["training"].append(row)
            training.append([name, row["workload"], row["packing"], number(row["samples_per_second"]), number(row["tokens_per_second"]),
                             number(row["tokens_unpacked_per_second"]), number(100 * row["mfu"], " %"), number(row["compile_seconds"]),
                             number(row["peer_samples_per_second"]), number(row["ratio"], " ×")])
        for d in entry["decoding"]:
            decoding.append([name, str(d["slots"]), str(d["prompt_tokens"]), str(d["new_tokens"]), number(d["prefill_tokens_per_second"]),
                             number(d["decode_tokens_per_second"]), number(d["compile_seconds"])])
        result["measured"][name] = entry
        text.append(f"- {name}: {bench['parameters'] / 1e6:,.0f} million parameters, base {bench['dtype']}, {bench['engine']}; "
                    f"card memory at most {number(most, ' MiB')}; matrix products reach {number((bench.get('peak_flops') or 0) / 1e12)} TFLOP/s")
    if failed:
        text.append("- failed or not ended in time, see the logs: " + ", ".join(failed))
    result["failed"] = failed
    text += ["", f"MFU of {peak / 1e12:,.0f} TFLOP/s, over the operations that the model needs of the tokens computed.", ""]
    text += table(["measurement", "training", "packing", "samples/s", "tokens/s", "plain/s", "MFU", "compile s", "peer samples/s", "ratio"], training)
    text += [""] + table(["measurement", "slots", "prompt", "new", "prefill tokens/s", "decode tokens/s", "compile s"], decoding)
    with open(os.path.join(directory, "report.json"), "w") as f:
        json.dump(result, f, indent=2)
    with open(os.path.join(directory, "report.md"), "w") as f:
        f.write("\n".join(text) + "\n")
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--peak", type=float, required=True)
    p.add_argument("--names", nargs="*", required=True)
    a = p.parse_args()
    return report(a.directory, a.peak, a.names)


if __name__ == "__main__":
    raise SystemExit(main())
