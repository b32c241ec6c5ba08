"""Reads steps of a KTO training, a JSON list of log-probabilities on standard input, and prints the loss and the KL that
TRL's own KTOTrainer computes from each: a JSON list of [loss, kl]; null where TRL is not installed."""
import json, sys, types
try:
    import torch
    from trl import KTOTrainer
except ImportError:
    print("null")
    sys.exit()


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


answers = []
for c in json.load(sys.stdin):
    trainer = types.SimpleNamespace(
        calculate_KL=True, loss_type="kto", beta=c["Beta"], desirable_weight=c["Desirable"], undesirable_weight=c["Undesirable"],
        accelerator=types.SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x))
    losses, _, _, kl = KTOTrainer.kto_loss(
        trainer, tensor(c["Policy"][0]), tensor(c["Policy"][1]), tensor(sum(c["PolicyMismatch"], [])),
        tensor(c["Reference"][0]), tensor(c["Reference"][1]), tensor(sum(c["ReferenceMismatch"], [])))
    answers.append([losses.nanmean().item(), kl.item()])
print(json.dumps(answers))
