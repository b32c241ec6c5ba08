#!/usr/bin/env python3
"""Turns what run.sh measured into report.md and report.json. Python's standard library alone.

  report DIR --peak FLOPS --shapes NAME...   MFU is the model's operations a second (bench lm's formula) over FLOPS
  prompt FILE                                mean tokens of a prompt in a report of bench lm
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


def mean_prompt(bench):
    g = bench["generation"][0]
    return max(1, round(g["prompt_tokens"] / g["samples"]))


def memory(path, shape):
    """The most MiB of the card that ours held during a shape; None where it was not sampled."""
    most, current = None, None
    if not os.path.exists(path):
        return None
    with open(path) as f:
        for line in f:
            if line.startswith("shape "):
                current = line.split()[1]
                continue
            m = re.match(r".*esclab-worker,\s*(\d+)", line)
            if m and current == shape:
                most = max(most or 0, int(m.group(1)))
    return most


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(r) + " |" for r in rows]


def number(x, unit=""):
    if x is None:
        return "–"
    return (f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}") + unit


def report(directory, peak, shapes):
    result, text = {"peak": peak, "shapes": {}}, ["# On a GPU", ""]
    device = os.path.join(directory, "device.csv")
    if os.path.exists(device):
        with open(device) as f:
            text += [f.read().strip().splitlines()[-1], ""]
    training, generation, failed = [], [], []
    for shape in shapes:
        bench = read(os.path.join(directory, shape + ".json"))
        if bench is None:
            failed.append(shape)
            continue
        peer = read(os.path.join(directory, shape + ".generate.json"))
        most = memory(os.path.join(directory, "memory.csv"), shape)
        entry = {"engine": bench["engine"], "dtype": bench.get("dtype"), "parameters": bench["parameters"], "peak_device_mib": most,
                 "peak_flops_measured": bench.get("peak_flops"), "training": [], "generation": []}
        beside = {(b["workload"], b["packing"]): b for b in bench.get("beside") or []}
        for t in bench["training"]:
            b = beside.get((t["workload"], t["packing"]))
            row = {"workload": t["workload"], "packing": t["packing"], "samples_per_second": t["samples_per_second"],
                   "tokens_per_second": t["tokens_per_second"], "tokens_unpacked_per_second": t["tokens_unpacked_per_second"],
                   "mfu": t["flops"] / peak, "compile_seconds": t["compile_seconds"],
                   "peer_samples_per_second": b and b["peer"]["median"], "ratio": b and b["ratio"]["median"]}
            entry["training"].append(row)
            training.append([shape, row["workload"], row["packing"], number(row["samples_per_second"]), number(row["tokens_per_second"]),
                             number(row["tokens_unpacked_per_second"]), number(100 * row["mfu"], " %"), number(row["compile_seconds"]),
                             number(row["peer_samples_per_second"]), number(row["ratio"], " ×")])
        for g in bench["generation"]:
            theirs = peer and peer["new_tokens_per_second"]
            row = {"workload": g["workload"], "packing": g["packing"], "slots": g["slots"], "new_tokens_per_second": g["new_tokens_per_second"],
                   "peer_new_tokens_per_second": theirs, "ratio": theirs and g["new_tokens_per_second"] / theirs}
            entry["generation"].append(row)
            generation.append([shape, row["workload"], row["packing"], str(row["slots"]), number(row["new_tokens_per_second"]),
                               number(theirs), number(row["ratio"], " ×")])
        result["shapes"][shape] = entry
        text.append(f"- {shape}: {bench['parameters'] / 1e6:,.0f} million parameters, base {bench.get('dtype')}, {bench['engine']}; "
                    f"card memory at most {number(most, ' MiB')}; matrix products reach {number((bench.get('peak_flops') or 0) / 1e12)} TFLOP/s")
    if failed:
        text.append("- failed, see the logs: " + ", ".join(failed))
    result["failed"] = failed
    text += ["", f"MFU of {peak / 1e12:,.0f} TFLOP/s, over the operations that the model needs of the tokens computed.", ""]
    text += table(["shape", "training", "packing", "samples/s", "tokens/s", "plain/s", "MFU", "compile s", "peer samples/s", "ratio"], training)
    text += [""] + table(["shape", "generation", "packing", "slots", "new/s", "peer new/s", "ratio"], generation)
    with open(os.path.join(directory, "report.json"), "w") as f:
        json.dump(result, f, indent=2)
    with open(os.path.join(directory, "report.md"), "w") as f:
        f.write("\n".join(text) + "\n")
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = p.add_subparsers(dest="verb", required=True)
    r = verbs.add_parser("report")
    r.add_argument("directory")
    r.add_argument("--peak", type=float, required=True)
    r.add_argument("--shapes", nargs="+", required=True)
    verbs.add_parser("prompt").add_argument("file")
    a = p.parse_args()
    if a.verb == "prompt":
        print(mean_prompt(read(a.file)))
        return 0
    return report(a.directory, a.peak, a.shapes)


if __name__ == "__main__":
    raise SystemExit(main())
