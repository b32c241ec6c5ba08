"""Reads a model and, where one is named, a PEFT adapter on it with the installed transformers and PEFT. Standard input
has {model, adapter, texts}, a text being tokenized, or ids taken as they are; printed are {ids, logprobs} of each."""
import json, sys
import torch, transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.logging.set_verbosity_error()
torch.set_num_threads(2)
ask = json.load(sys.stdin)
ids = ask["ids"] or []
if ask["texts"]:
    tokenizer = AutoTokenizer.from_pretrained(ask["model"])
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ask["texts"]]
model = AutoModelForCausalLM.from_pretrained(ask["model"], dtype=torch.float32, attn_implementation="eager")
if ask["adapter"]:
    model = PeftModel.from_pretrained(model, ask["adapter"])
model.eval()
logprobs = []
with torch.no_grad():
    for one in ids:
        tokens = torch.tensor([one])
        all = torch.log_softmax(model(tokens).logits[0, :-1].double(), -1)
        logprobs.append(all.gather(1, tokens[0, 1:, None])[:, 0].tolist())
json.dump({"ids": ids, "logprobs": logprobs}, sys.stdout)
