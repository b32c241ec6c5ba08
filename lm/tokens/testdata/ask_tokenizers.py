"""Answers what the installed transformers makes of texts with the tokenizers in some directories: standard input has a
list of {name, dir, texts}, the output an object of lists of ids by name, null where transformers refuses."""
import json, sys
import transformers

transformers.logging.set_verbosity_error()
answers = {}
for case in json.load(sys.stdin):
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(case["dir"])
        answers[case["name"]] = [tokenizer.encode(text, add_special_tokens=False) for text in case["texts"]]
    except Exception:
        answers[case["name"]] = None
json.dump(answers, sys.stdout)
