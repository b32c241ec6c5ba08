"""Answers templates on standard input as transformers' apply_chat_template does (utils/chat_template_utils.py)."""
import datetime, json, sys
import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda f: datetime.datetime.now().strftime(f)
cases = json.load(sys.stdin)
for c in cases:
    for r in c["cases"]:
        r.pop("text", None), r.pop("error", None)
        try:
            r["text"] = env.from_string(c["template"]).render(
                messages=r["messages"], add_generation_prompt=r["add_generation_prompt"], tools=None, documents=None, **c.get("special", {}))
        except Exception as e:
            r["error"] = type(e).__name__ + ": " + str(e)
json.dump(cases, sys.stdout)
