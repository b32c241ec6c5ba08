#!/usr/bin/env python3
"""Replies as the systems of this folder do, with transformers and peft (pip install torch transformers peft).

  python inference.py                                   lists the systems
  python inference.py decoupled/dpo < contexts.jsonl    a reply to each line
  python inference.py decoupled/dpo --backbone PATH     where the backbone is not in this folder

A line is {"messages": [{"role": "user", "content": "I lost my job."}, {"role": "assistant", "content": "[Question] When?"},
...]}: user is the seeker, who speaks last; assistant is the supporter, each text with its strategy in brackets. With
"strategy" beside the messages that one is taken, and none is planned. The reply is {"strategy": ..., "response": ...}; the
strategy is null where the text names none.

prompts.json says what each model is given: its system message, how the conversation is put in, and how the strategy.
"""
import argparse
import json
import math
import os
import random
import re
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
MARKUP = "*_\"'`#> \t"


def fold(name):
    return " ".join(name.split()).lower()


class Strategies:
    """Reads the strategy that a text begins with: in brackets, with one missing, or bare before a colon or a line's end."""

    def __init__(self, recipe):
        self.definition = {s["name"]: s["definition"] for s in recipe["strategies"]}
        self.names = {**recipe["spellings"], **{fold(name): name for name in self.definition}}

    def read(self, role, text):
        """The strategy (None: none is named) and the response of a role's text."""
        text = text.strip()
        strategy, rest, bracketed = self.cut(text)
        if role == "rg":  # was given its strategy, and may repeat it
            return None, rest if strategy and bracketed else text
        if strategy is None:
            return None, text
        return strategy, "" if role == "sp" else rest

    def cut(self, text):
        head = text.lstrip(MARKUP)
        opened = head.startswith("[")
        head = head.lstrip("[" + MARKUP)
        for label in ("the strategy is", "reply strategy", "strategy"):
            if head[:len(label)].lower() == label:
                after = head[len(label):].lstrip(MARKUP + ":")
                head = after or head
                break
        opened = opened or head.startswith("[")
        body = head.lstrip("[" + MARKUP)
        end = body.find("]")
        if end >= 0 and len(body[:end].encode()) <= 48 and "\n" not in body[:end]:
            name = self.names.get(fold(body[:end].strip(MARKUP)))
            if name:
                return name, self.rest(body[end + 1:]), True
            if opened:
                return None, "", True
        found = ""
        for name in self.names:
            following = body[len(name):len(name) + 1]
            if len(name) > len(found) and body[:len(name)].lower() == name and not (following.isalpha() or following.isdecimal()):
                found = name
        if not found:
            return None, "", opened
        after = body[len(found):].lstrip(MARKUP)
        closed = not after or after[0] in ":-–—\n" or body[len(found):].startswith("\n")
        if not opened and not closed:
            return None, "", False  # an ordinary sentence that begins with the word
        return self.names[found], self.rest(after), opened

    @staticmethod
    def rest(text):
        text = text.lstrip("]* \t\n")
        after = text[1:]
        if text[:1] in (":", "-", "–", "—") and after and (after[0].isspace() or after[0].isalpha() or after[0] in '*"'):
            text = after.lstrip("* \t\n")
        return text.strip()


class Prompts:
    """Turns conversations into the token ids that a system's models are given."""

    def __init__(self, tokenizer, recipe, system):
        self.tokenizer, self.system, self.strategies = tokenizer, system, Strategies(recipe)
        self.added = {token.content: i for i, token in tokenizer.added_tokens_decoder.items()}
        self.added_text = re.compile("(" + "|".join(map(re.escape, sorted(self.added, key=len, reverse=True))) + ")")

    def messages(self, role, context, strategy):
        """The chat of a role, and what the assistant's message begins with."""
        template = self.system["prompts"][role]

        def given(text):
            if strategy is None:
                return text
            return text.replace("{{strategy}}", strategy).replace("{{definition}}", self.strategies.definition[strategy])
        if not template["history_strategies"]:
            context = [dict(m, content=self.without_strategy(m["content"])) if m["role"] == "assistant" else m for m in context]
        if template.get("user"):
            said = [("Supporter: " if m["role"] == "assistant" else "Seeker: ") + m["content"].strip() for m in context if m["content"].strip()]
            context = [{"role": "user", "content": template["user"].replace("{{conversation}}", "\n".join(said))}]
        system = given(template["system"])
        return ([{"role": "system", "content": system}] if system else []) + list(context), given(template.get("answer_prefix", ""))

    def without_strategy(self, text):
        for name in self.strategies.definition:
            if text.startswith(f"[{name}] "):
                return text[len(name) + 3:]
        return text

    def pieces(self, messages, generation=True):
        """The template's texts and the contents between them: text, left, index, right, text, ... Left and right are "" where
        the template trims the content. The template is run on marks in place of the contents, so that nothing that a
        person writes is read as a special token."""
        marked = [dict(m, content=f"\v\ue000{i}\ue001\v" if m["content"] else "") for i, m in enumerate(messages)]
        # Llama 3's template falls back on this date where there is no clock.
        text = self.tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=generation, date_string="26 Jul 2024")
        return re.split("(\v?)\ue000(\\d+)\ue001(\v?)", text)

    def text(self, text):
        """The ids of a text in which no special token is read."""
        backend = self.tokenizer.backend_tokenizer
        if backend.normalizer:
            text = backend.normalizer.normalize_str(text)
        words = backend.pre_tokenizer.pre_tokenize_str(text) if backend.pre_tokenizer else [(text, None)]
        return [token.id for word, _ in words for token in backend.model.tokenize(word)]

    def chat(self, messages, prefix):
        """The ids of a chat, the assistant's header and the prefix. What stands between special tokens is tokenized by
        itself, an assistant's content apart from the header before it."""
        ids, run = [], ""
        pieces = self.pieces(messages)
        for i, piece in enumerate(pieces):
            if i % 4 == 0:
                for part in self.added_text.split(piece):
                    if part in self.added:
                        ids, run = ids + self.text(run) + [self.added[part]], ""
                    else:
                        run += part
            elif i % 4 == 2:
                message = messages[int(piece)]
                content = message["content"] if pieces[i - 1] else message["content"].lstrip()
                content = content if pieces[i + 1] else content.rstrip()
                if message["role"] == "assistant":
                    ids, run = ids + self.text(run), ""
                run += content
        return ids + self.text(run) + self.text(prefix)

    def end_of_turn(self):
        """The special token that ends the assistant's message."""
        after = self.pieces([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], generation=False)[-1]
        return self.added[self.added_text.match(after).group()]

    def ids(self, role, context, strategy=None, prefix=None, reserve=0):
        """The ids of a prompt that leaves reserve tokens free: the oldest exchanges are dropped until it does."""
        room = self.system["max_tokens"] - reserve

        def encode(context):
            messages, own = self.messages(role, context, strategy)
            return self.chat(messages, own if prefix is None else prefix)
        while True:
            ids = encode(context)
            if len(ids) <= room:
                return ids
            if len(context) < 3:
                break
            drop = 2  # long conversations are cut to about the right size at once
            while drop + 2 < len(context) and len(ids) - room > len(ids) * (drop + 2) // len(context):
                drop += 2
            context = context[drop:]
        text = context[-1]["content"]
        while len(ids) > room:
            if not text:
                raise ValueError(f"the prompt alone has {len(ids)} tokens and max_tokens leaves {room}")
            text = text[(len(text) + 3) // 4:]
            ids = encode([dict(context[-1], content=text)])
        return ids


class System:
    """A system's models."""

    def __init__(self, recipe, name, backbone=None, device=None):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        self.torch, self.system = torch, recipe["systems"][name]
        path = backbone or self.system.get("base") and os.path.join(FOLDER, self.system["base"])
        if not path:
            raise SystemExit(f"the backbone, {recipe['backbone']}, is not in this folder: name it with --backbone PATH_OR_HUB_NAME")
        tokenizer = AutoTokenizer.from_pretrained(path)
        self.prompts = Prompts(tokenizer, recipe, self.system)
        self.tokenizer, self.strategies, self.unread = tokenizer, self.prompts.strategies, recipe["unread"]
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = AutoModelForCausalLM.from_pretrained(path).to(self.device, getattr(torch, self.system["dtype"]))
        self.adapters = self.system.get("adapters", {})
        for role, folder in self.adapters.items():
            self.load(role, os.path.join(FOLDER, folder))
        self.model.eval()
        stop = self.model.generation_config.eos_token_id
        self.stop = set(stop if isinstance(stop, list) else [stop]) | {tokenizer.eos_token_id, self.prompts.end_of_turn()}
        self.stop.discard(None)
        self.greedy, self.trace = False, []

    def load(self, role, folder):
        from peft import PeftModel
        if isinstance(self.model, PeftModel):
            self.model.load_adapter(folder, role)
        else:
            self.model = PeftModel.from_pretrained(self.model, folder, adapter_name=role)

    def use(self, role, ids):
        if role in self.adapters:
            self.model.set_adapter(role)
        self.trace.append({"role": role, "ids": ids})

    def write(self, role, context, strategy=None, prefix=None):
        """A role's text after its prompt."""
        from transformers import GenerationConfig
        how = dict(self.system["sampling"][role])
        limit = how.pop("max_new_tokens")
        ids = self.prompts.ids(role, context, strategy, prefix, limit + 1)
        self.use(role, ids)
        if self.greedy or not how["do_sample"]:
            how = {"do_sample": False, "repetition_penalty": how["repetition_penalty"]}
        # One token more than the limit, for the one that ends the message does not count.
        config = GenerationConfig(max_new_tokens=limit + 1, eos_token_id=sorted(self.stop), pad_token_id=min(self.stop), **how)
        prompt = self.torch.tensor([ids], device=self.device)
        with self.torch.no_grad():
            out = self.model.generate(input_ids=prompt, attention_mask=self.torch.ones_like(prompt), generation_config=config)
        new = out[0, len(ids):].tolist()[:limit + 1]
        end = next((i for i, token in enumerate(new) if token in self.stop), limit)
        return self.tokenizer.decode(new[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def draw(self, role, context):
        """A strategy drawn token by token among the tokens that go on one of the eight names."""
        how, form = self.system["sampling"][role], self.system["prompts"][role]["names"]
        names = {name: self.prompts.text(form.replace("{{strategy}}", name)) for name in self.strategies.definition}
        if role == "sp":
            names = {name: ids + [self.prompts.end_of_turn()] for name, ids in names.items()}
        ids = self.prompts.ids(role, context, reserve=max(map(len, names.values())))
        self.use(role, ids)
        left, depth = names, 0
        while len(left) > 1:
            prefix = next(iter(left.values()))[:depth]
            with self.torch.no_grad():
                logits = self.model(input_ids=self.torch.tensor([ids + prefix], device=self.device)).logits[0, -1].double()
            tokens = list(dict.fromkeys(name[depth] for name in left.values()))
            weights = [float(logits[token]) for token in tokens]
            token = tokens[weights.index(max(weights))]
            if how["do_sample"] and not self.greedy:
                token = random.choices(tokens, [math.exp((w - max(weights)) / how["temperature"]) for w in weights])[0]
            left, depth = {name: path for name, path in left.items() if path[depth] == token}, depth + 1
        return next(iter(left))

    def reply(self, context, strategy=None):
        """The strategy and the response to a conversation."""
        self.trace = []
        planner, writer = self.system.get("planner"), self.system["writer"]
        if strategy is None and self.system["strategy"] == "constrained" and (planner or writer == "vm"):
            strategy = self.draw(planner or writer, context)
        if planner and strategy is None:
            strategy, _ = self.strategies.read(planner, self.write(planner, context))
        if writer == "rg":
            if not planner and strategy is None:
                raise SystemExit('this system is given its strategy: put "strategy" beside the messages')
            return strategy, self.strategies.read("rg", self.write("rg", context, strategy or self.unread))[1]
        if strategy is None:
            return self.strategies.read("vm", self.write("vm", context))
        return strategy, self.strategies.read("rg", self.write("vm", context, prefix=f"[{strategy}]"))[1]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("system", nargs="?", help="as in decoupled/dpo")
    p.add_argument("--backbone", help="directory or hub name of the backbone")
    p.add_argument("--device", help="cuda or cpu")
    p.add_argument("--greedy", action="store_true", help="the likeliest token, always; else as the run sampled")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--trace", action="store_true", help="also print the ids of the prompts")
    a = p.parse_args()
    with open(os.path.join(FOLDER, "prompts.json"), encoding="utf-8") as f:
        recipe = json.load(f)
    if a.system not in recipe["systems"]:
        print("\n".join(recipe["systems"]))
        return 2 if a.system else 0
    system = System(recipe, a.system, a.backbone, a.device)
    system.greedy = a.greedy
    system.torch.manual_seed(a.seed)
    random.seed(a.seed)
    for line in sys.stdin:
        asked = json.loads(line)
        strategy, response = system.reply(asked["messages"], asked.get("strategy"))
        answer = {"strategy": strategy, "response": response}
        if a.trace:
            answer["prompts"] = system.trace
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
