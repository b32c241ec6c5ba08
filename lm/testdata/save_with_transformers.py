"""Saves small random models and adapters as the installed transformers and PEFT save them, below the directory that is
given, and prints what each gives the tokens of two sequences: a JSON list of {name, model, adapter, ids, logprobs}."""
import json, os, sys
import torch, transformers
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
torch.manual_seed(1)
root = sys.argv[1]
five = hasattr(LlamaConfig(), "rope_parameters")
sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=61, max_position_embeddings=128, attn_implementation="eager")
scaled = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)


def rope(theta, scaling):
    if five:
        return dict(rope_parameters={"rope_type": "default", **scaling, "rope_theta": theta})
    return dict(rope_theta=theta, rope_scaling=scaling or None)


families = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
models = [
    ("tied", dict(tie_word_embeddings=True, **rope(10000.0, {}))),
    ("untied", dict(tie_word_embeddings=False, rms_norm_eps=1e-5, **rope(500000.0, {}))),
    ("untied, scaled", dict(tie_word_embeddings=False, **rope(500.0, scaled))),
    ("tied, scaled, one key-value head", dict(tie_word_embeddings=True, num_key_value_heads=1, **rope(10000.0, scaled))),
]
only = {"llama": [("biases, wide heads", dict(attention_bias=True, mlp_bias=True, head_dim=12, **rope(123.0, {})))], "qwen2": []}
adapters = [
    ("list of names", dict(target_modules=["q_proj", "v_proj"])),
    ("list of suffixes", dict(target_modules=["self_attn.k_proj", "mlp.down_proj"])),
    ("all-linear", dict(target_modules="all-linear")),
    ("regular expression", dict(target_modules=r".*\.(?:1|2)\.(?:self_attn\.(?:q|o)_proj|mlp\.\w+_proj)")),
    ("layers_to_transform", dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[0, 2], layers_pattern="layers")),
    ("one layer to transform", dict(target_modules=["gate_proj"], layers_to_transform=1)),
    ("exclude_modules", dict(target_modules="all-linear", exclude_modules=["mlp.gate_proj", "k_proj"])),
    ("rank_pattern", dict(target_modules=["q_proj", "v_proj"], rank_pattern={"layers.1.self_attn.q_proj": 2, "v_proj": 6})),
    ("alpha_pattern", dict(target_modules="all-linear", alpha_pattern={"^model.layers.0.self_attn.q_proj": 3, r"layers\.\d\.mlp\.up_proj": 1})),
    ("rslora", dict(target_modules="all-linear", use_rslora=True)),
    ("rslora, rank_pattern and alpha_pattern", dict(
        target_modules=["o_proj", "down_proj"], use_rslora=True, rank_pattern={"o_proj": 2}, alpha_pattern={"0.mlp.down_proj": 5})),
]


def shake(parameters, seed, deviation):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in parameters:
            p.add_(torch.randn(p.shape, generator=generator) * deviation)


def answers(model):
    model.eval()
    ids = [[(7 * i * i + 3 * i + k) % sizes["vocab_size"] for i in range(n)] for k, n in ((1, 9), (2, 100))]
    rows = []
    with torch.no_grad():
        for row in ids:
            logits = torch.log_softmax(model(input_ids=torch.tensor([row])).logits[0].double(), -1)
            rows.append([logits[i - 1, row[i]].item() for i in range(1, len(row))])
    return dict(ids=ids, logprobs=rows)


cases = []
for family, (config_class, model_class) in families.items():
    for name, keys in models + only[family]:
        directory = f"{family}, {name}"
        model = model_class(config_class(**{**sizes, **keys}))
        shake(model.parameters(), len(cases), 0.15)
        model.save_pretrained(os.path.join(root, directory))
        cases.append(dict(name=directory, model=directory, adapter="", **answers(model)))
    for name, keys in adapters:
        directory = f"{family}, untied"
        model = model_class.from_pretrained(os.path.join(root, directory), attn_implementation="eager")
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **keys))
        shake((p for n, p in model.named_parameters() if "lora_" in n), len(cases), 0.3)
        model.save_pretrained(os.path.join(root, f"{directory}, {name}"))
        cases.append(dict(name=f"{directory}, {name}", model=directory, adapter=f"{directory}, {name}", **answers(model)))
json.dump(cases, sys.stdout)
