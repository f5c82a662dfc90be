"""Makes tests/fixtures/templates.json: conversations rendered by transformers.

    pip install 'transformers>=5' jinja2
    python tests/export_templates.py

The templates are written for this test, in the style of those that released models have.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import transformers
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
OMNI = json.loads((HERE / "fixtures" / "chat_template.json").read_text())["template"]

# Tools, tool calls and thoughts in the manner of Qwen3.
THINKER = r"""
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n\nSignatures stand within <tools></tools>:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nAnswer a call as {\"name\": <name>, \"arguments\": <object>}.<|im_end|>\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thoughts = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or thoughts) %}
            {{- '<|im_start|>' + message.role + '\n<think>\n' + thoughts.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

# Calls as tags with parameters, in the manner of Qwen3-Coder: a macro, items(), join, sorted keys.
CODER = r"""
{% macro render_extra_keys(json_dict, handled_keys) %}
    {%- if json_dict is mapping %}
        {%- for json_key in json_dict if json_key not in handled_keys %}
            {%- if json_dict[json_key] is mapping or (json_dict[json_key] is sequence and json_dict[json_key] is not string) %}
                {{- '\n<' ~ json_key ~ '>' ~ (json_dict[json_key] | tojson | safe) ~ '</' ~ json_key ~ '>' }}
            {%- else %}
                {{-'\n<' ~ json_key ~ '>' ~ (json_dict[json_key] | string) ~ '</' ~ json_key ~ '>' }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{% endmacro %}

{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined or tools is none %}
    {%- set tools = [] %}
{%- endif %}
{%- if system_message is defined %}
    {{- "<|im_start|>system\n" + system_message }}
{%- elif tools is iterable and tools | length > 0 %}
    {{- "<|im_start|>system\nYou may call tools." }}
{%- endif %}
{%- if tools is iterable and tools | length > 0 %}
    {{- "\n\n<tools>" }}
    {%- for tool in tools %}
        {%- if tool.function is defined %}
            {%- set tool = tool.function %}
        {%- endif %}
        {{- "\n<function>\n<name>" ~ tool.name ~ "</name>" }}
        {%- if tool.description is defined %}
            {{- '\n<description>' ~ (tool.description | trim) ~ '</description>' }}
        {%- endif %}
        {{- '\n<parameters>' }}
        {%- if tool.parameters is defined and tool.parameters is mapping and tool.parameters.properties is defined %}
            {%- for param_name, param_fields in tool.parameters.properties|items %}
                {{- '\n<parameter>\n<name>' ~ param_name ~ '</name>' }}
                {{- '\n<type>' ~ (param_fields.type | string) ~ '</type>' }}
                {%- set handled_keys = ['name', 'type'] %}
                {{- render_extra_keys(param_fields, handled_keys) }}
                {{- '\n</parameter>' }}
            {%- endfor %}
        {%- endif %}
        {{- render_extra_keys(tool.parameters, ['type', 'properties']) }}
        {{- '\n</parameters>\n</function>' }}
    {%- endfor %}
    {{- "\n</tools>" }}
{%- endif %}
{%- if system_message is defined or tools %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in loop_messages %}
    {%- if message.role == "assistant" and message.tool_calls is defined and message.tool_calls is iterable and message.tool_calls | length > 0 %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content is defined and message.content is string and message.content | trim | length > 0 %}
            {{- '\n' + message.content | trim + '\n' }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n<function=' + tool_call.name + '>\n' }}
            {%- if tool_call.arguments is mapping %}
                {%- for args_name, args_value in tool_call.arguments.items() %}
                    {{- '<parameter=' + args_name + '>\n' }}
                    {%- set args_value = args_value | tojson | safe if args_value is mapping or (args_value is sequence and args_value is not string) else args_value | string %}
                    {{- args_value }}
                    {{- '\n</parameter>\n' }}
                {%- endfor %}
            {%- endif %}
            {{- '</function>\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role in ["user", "system", "assistant"] %}
        {{- '<|im_start|>' + message.role + '\n' + (message.content or '') + '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.previtem and loop.previtem.role != "tool" %}
            {{- '<|im_start|>user\n' }}
        {%- endif %}
        {{- '<tool_response>\n' + message.content + '\n</tool_response>\n' }}
        {%- if not loop.last and loop.nextitem.role != "tool" %}
            {{- '<|im_end|>\n' }}
        {%- elif loop.last %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- else %}
        {{- raise_exception('unknown role ' ~ message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

# Marks around what the assistant said, with every kind of whitespace mark.
GENERATION = """{# Not a mark: {% generation %} #}{{ "{% generation %}" }}
{% raw %}{% generation %}{% endraw %}
{% for message in messages %}
  {%- set kept = message['role'] %}
<{{ kept }}>
  {% if message['role'] == 'assistant' -%}
    {%- generation -%}
      {% set kept = 'lost' %}
      {{ message['content'] }}
    {%- endgeneration %}
    {% generation %}
    two
    {% endgeneration %}
  {%- else %}
    {%+ if true %}{{ message['content'] | default('nothing', true) }}{% endif +%}
  {% endif %}
</{{ kept }}>
{% endfor %}
{%- if add_generation_prompt %}<assistant>
{% endif %}
"""

# Special tokens, strictly alternating roles, a date, and variables of the caller.
TOKENS = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set offset = 1 %}{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% else %}{% set offset = 0 %}{% set system = '' %}{% endif %}
{%- if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y, %A %-d %j %H:%M') %}{% endif %}
{{- '[' + date_string + ']' }}
{%- for message in messages[offset:] %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- bos_token if not loop.first else '' }}[INST] {{ (system if loop.first else '') + message['content'].strip() }} [/INST]
    {%- else %}
        {{- ' ' + message['content'] | trim + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}{{ pad_token }}{{ image_token }}{{ voice_token }}{{ unk_token }}{{ sep_token is defined }}
"""

# What the language can: filters, methods, tests, printing of lists, loops within loops.
LANGUAGE = """{%- for m in messages %}
{%- if loop.index > 6 %}{% break %}{% endif %}
{%- if m.role == 'skip' %}{% continue %}{% endif %}
{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.cycle('odd', 'even') }} {{ m.role|upper }} {{ m.role|capitalize }} {{ m.role.title() }}
{{ m.content if m.content is string else m.content|tojson(indent=2) }}
{% endfor %}
{{- {'b': 1, 'a': [true, none, 1.5, 'it\\'s', "q\\"", 'é\\n']} }}
{{ [1, 'x', (1, 2), {}] }} {{ (1,) }} {{ none }} {{ true }} {{ 7 // 2 }} {{ 7 / 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1.0 }}
{{ {'b': [1, {'c': 'ü<&>\\'"'}], 'a': 1.0}|tojson }}
{{ {'b': [1, 2], 'a': {}, 'c': []}|tojson(indent=2, sort_keys=true) }}
{{ {'b': [1, 2], 'a': 'ü\\u2028😀'}|tojson(ensure_ascii=true, separators=(',', ':')) }}
{{ [1e20, 1e-7, 0.1, 123456789.125]|tojson }}
{{ range(3)|list }} {{ range(1, 10, 3)|join('-') }} {{ 'abc'[::-1] }} {{ 'abc'[-2:] }} {{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a.b.c'.rsplit('.', 1) }}
{{ 'xxabcxx'.strip('x') }}|{{ 'ab'.removeprefix('a') }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.zfill(4) }}|{{ 'a-b-c'.partition('-')[0] }}|{{ 'abc'.replace('b', 'X') }}|{{ 'a b'.split(' ', 1)[-1] }}|{{ 'abcabc'.find('c') }}|{{ '-'.join(['a', 'b']) }}
{{ 'abc'|length }} {{ 'a b c'|replace(' ', '_') }} {{ ['b', 'a', 'C']|sort }} {{ [3, 1, 2]|max }} {{ [1, 2, 3]|sum }} {{ ['x', 'y']|first }} {{ ['x', 'y']|last }} {{ [1, 1, 2]|unique|list }} {{ [1, 2, 3]|reverse|list }}
{{ messages|map(attribute='role')|join(', ') }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|rejectattr('role', 'eq', 'user')|map(attribute='role')|list }} {{ [0, 1, 2, 3]|select('odd')|list }}
{{ {'b': 2, 'a': 1}|dictsort }} {{ {'b': 2, 'a': 1}|items|list }} {{ {'b': 2}.get('c', 'none') }} {{ {'b': 2}.keys()|list }} {{ dict(a=1, b=2) }} {{ 'a' in {'a': 1} }} {{ 'x' not in 'abc' }}
{% set ns = namespace(total=0, seen=[]) %}{% for i in range(4) %}{% set ns.total = ns.total + i %}{% set ns.seen = ns.seen + [i * 2] %}{% endfor %}{{ ns.total }} {{ ns.seen }}
{% set block %}inside {{ 1 + 1 }}{% endset %}{{ block|upper }}{% filter upper %} shout {% endfilter %}
{% macro greet(name, greeting='Hello') %}{{ greeting }}, {{ name }}!{% endmacro %}{{ greet('Ann') }} {{ greet('Bo', greeting='Hi') }}{% call(x) wrap() %}{% endcall %}
{%- for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }};{% else %}none{% endfor %}{% for x in [] %}{% else %}none{% endfor %}
{{ '%s is %d' | format('x', 3) }} {{ 3.7|int }} {{ '12'|int + 1 }} {{ 3|float }} {{ 2.567|round(1) }} {{ -3|abs }} {{ undefined_variable }}|{{ undefined_variable is defined }}|{{ undefined_variable|default('d') }}
{{ 'a' ~ 1 ~ none ~ true }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ not false and (1 or 0) }} {{ 1 if false }} {{ [1, 2] == [1, 2] }} {{ (1, 2) == (1, 2) }}
{{ documents|map(attribute='title')|join('; ') if documents else 'no documents' }} {{ flag|tojson }} {{ numbers|sum }}
""".replace("{% call(x) wrap() %}{% endcall %}", "{% macro wrap() %}<{{ caller(1) }}>{% endmacro %}{% call(x) wrap() %}{{ x }}{% endcall %}")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place; <b>now</b> & \"later\" — Zürich too",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": ["integer", "null"], "default": 3, "minimum": 0.5},
            },
            "required": ["place"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


def user(content):
    return {"role": "user", "content": content}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, arguments, id="call_1"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "hello": [user("Hi")],
    "with-system": [system("Be short."), user("Hi")],
    "two-turns": [system("S"), user("One?"), assistant("Yes."), user("Two?")],
    "ends-with-assistant": [user("One?"), assistant("  Yes. \n")],
    "unicode": [user("Zürich 你好 🙂 e\u0301 \u200b|\u00a0|\u2028| ‹›"), assistant("ß → \t tab"), user("\U0001f468\u200d\U0001f469\u200d\U0001f467")],
    "marks-in-contents": [user("<|im_end|>\n<|im_start|>system\n{{ 7 * 7 }} {% raw %} {# c #}"), assistant("<tool_call>"), user("'\"\\ &lt;")],
    "empty": [system(""), user(""), assistant(""), user("\n")],
    "thoughts-in-content": [user("2+2?"), assistant("<think>\nfour\n\nsure\n</think>\n\n4"), user("3+3?")],
    "thoughts-aside": [user("2+2?"), assistant("4", reasoning_content="four"), user("3+3?"), assistant("6", reasoning_content="\nsix\n")],
    "thoughts-by-another-name": [user("2+2?"), assistant("4", thinking="four")],
    "call": [user("Weather in Zürich?"), assistant("", tool_calls=[call("get_weather", {"place": "Zürich", "days": 2, "deep": {"b": [1, 2.5, None], "a": True}})])],
    "call-and-result": [
        system("Use tools."),
        user("Weather?"),
        assistant("Let me see.", reasoning_content="I need it", tool_calls=[call("get_weather", {"place": "A"}), call("clock", {}, "call_2")]),
        {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "{\"sky\": \"<clear>\"}"},
        {"role": "tool", "tool_call_id": "call_2", "name": "clock", "content": "12:00"},
        assistant("Clear, at noon."),
        user("Thanks"),
    ],
    "call-without-content": [user("Time?"), {"role": "assistant", "content": None, "tool_calls": [call("clock", "{\"zone\": \"UTC\"}")]}, {"role": "tool", "content": "12"}],
    "result-last": [user("Time?"), assistant("", tool_calls=[call("clock", {})]), {"role": "tool", "content": "12"}, {"role": "tool", "content": "13"}],
    "many-turns": [message for n in range(6) for message in (user(f"Question {n}?"), assistant(f"Answer {n}."))] + [user("And now?")],
    "blank-system": [system(" \n\t "), user("Hi")],
    "code": [user("```python\ndef f(x):\n    return {x: [1, 2]}\n```\n"), assistant("```rust\nfn main() {}\n```"), user("{{ x }} {# y #} {% z %}")],
    "right-to-left": [user("\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd"), assistant("\u202bok\u202c"), user("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35")],
    "blank-lines": [user("\n\nfirst\n\n\nlast\n\n"), assistant("\n\n  indented\n\n"), user("  \n x \n  ")],
    "long-line": [user("word " * 100), assistant("yes"), user("no" * 50)],
    "unclosed-thought": [user("2+2?"), assistant("<think>\nfour"), user("Go on.")],
    "thought-closed-alone": [user("2+2?"), assistant("four</think>\n\n4"), user("And?")],
    "thought-twice": [user("a"), assistant("<think>1</think>x<think>2</think>y"), user("b"), assistant("<think>\n\n</think>\n\nz"), user("c")],
    "quotes": [system("'single' \"double\" \\ back"), user("it's \"so\""), assistant("<b>&amp;</b>"), user("a < b > c & d")],
    "two-calls-two-turns": [
        user("A?"), assistant("", tool_calls=[call("clock", {})]), {"role": "tool", "content": "12"}, assistant("Twelve."),
        user("B?"), assistant("Looking.", tool_calls=[call("get_weather", {"place": "B", "days": 1})]), {"role": "tool", "content": "rain"},
    ],
    "call-with-nested-text": [user("Go"), assistant("", tool_calls=[call("get_weather", {"place": "a\nb\"c\u00e9", "list": [[], {}, [None, True, -0.5]]})])],
    "result-is-empty": [user("Time?"), assistant("", tool_calls=[call("clock", {})]), {"role": "tool", "content": ""}, assistant("No answer."), user("Oh")],
    "system-and-turns": [system("You are a robot.\nObey."), user("Weather?"), assistant("Sunny."), user("Time?")],
    "numbers": [user("0"), assistant("1e400"), user("-0.0 \u0661\u0662 \u00bd")],
    "parts": [
        user([{"type": "image", "image": "a.png"}, {"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]),
        assistant([{"type": "text", "text": "A cat."}]),
        user([{"type": "audio", "audio": "b.wav"}, {"type": "video", "video": "c.mp4"}, {"type": "text", "text": ""}]),
    ],
}

TEXT = [name for name in CONVERSATIONS if name != "parts"]
FLAT = ["hello", "with-system", "two-turns", "unicode", "marks-in-contents", "empty", "ends-with-assistant", "many-turns", "code", "blank-lines", "quotes", "numbers"]
TOOLED = ["call", "call-and-result", "call-without-content", "result-last", "hello", "with-system", "two-calls-two-turns", "call-with-nested-text", "result-is-empty", "system-and-turns"]
CONFIG = {
    "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": None,
    "image_token": "<|image|>",
    "extra_special_tokens": {"voice_token": "<|voice|>"},
}
NOW = "2026-02-03T04:05:06"

# name, chat_template of tokenizer_config.json, rest of it, [(conversation, options)]
SETS = [
    ("omni", OMNI, {}, [(name, {}) for name in [*FLAT, "parts"]] + [("hello", {"enable_thinking": False}), ("parts", {"enable_thinking": True})]),
    (
        "thinker",
        THINKER,
        {},
        [(name, {}) for name in TEXT]
        + [(name, {"tools": [WEATHER, CLOCK]}) for name in TOOLED]
        + [("hello", {"enable_thinking": False}), ("two-turns", {"enable_thinking": True})],
    ),
    ("coder", CODER, {}, [(name, {}) for name in TEXT] + [(name, {"tools": [WEATHER, CLOCK]}) for name in TOOLED]),
    ("generation", GENERATION, {}, [(name, {}) for name in [*FLAT, "thoughts-in-content"]]),
    (
        "tokens",
        TOKENS,
        CONFIG,
        [(name, {}) for name in FLAT] + [("hello", {"date_string": "today"}), ("hello", {"eos_token": "<END>", "pad_token": "!"}), ("call-and-result", {})],
    ),
    (
        "language",
        LANGUAGE,
        {},
        [
            ("hello", {"flag": 1e22, "numbers": []}),
            ("call-and-result", {"flag": {"b": [True, None], "a": "ü"}, "numbers": [1, 2.5]}),
            ("parts", {"documents": [{"title": "One", "text": "1"}, {"title": "Two", "text": "2"}], "flag": False, "numbers": []}),
            ("unicode", {"flag": {"z": [], "a": {}}, "numbers": [10]}),
        ],
    ),
    (
        "named",
        [{"name": "tool_use", "template": "tools: {{ tools | length }}"}, {"name": "default", "template": "{{ messages[-1].content }}{{ eos_token }}"}],
        {"eos_token": "<e>"},
        [("hello", {}), ("hello", {"tools": [CLOCK]})],
    ),
]


class Fixed(chat_template_utils.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(NOW)


def tokenizer_of(folder, config):
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
    return transformers.AutoTokenizer.from_pretrained(folder)


def main():
    chat_template_utils.datetime = Fixed
    sets, count = [], 0
    for name, template, config, asked in SETS:
        config = {**config, "chat_template": template}
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = tokenizer_of(Path(folder), config)
        cases = []
        for conversation, options in asked:
            for prompt in (True, False):
                case = {"conversation": conversation, "add_generation_prompt": prompt, "options": options}
                try:
                    case["rendered"] = tokenizer.apply_chat_template(
                        CONVERSATIONS[conversation], tokenize=False, add_generation_prompt=prompt, **options
                    )
                except Exception as error:
                    case["refused"] = str(error)
                cases.append(case)
        sets.append({"name": name, "tokenizer_config": config, "cases": cases})
        count += len(cases)
    fixture = {
        "provenance": f"tests/export_templates.py, transformers {transformers.__version__}",
        "now": NOW,
        "conversations": CONVERSATIONS,
        "sets": sets,
    }
    out = HERE / "fixtures" / "templates.json"
    out.write_text(json.dumps(fixture, ensure_ascii=False, indent=1) + "\n")
    print(f"{out}: {count} renderings, {out.stat().st_size} bytes")
    for entry in sets:
        for case in entry["cases"]:
            if "refused" in case:
                print(entry["name"], case["conversation"], case["refused"])


if __name__ == "__main__":
    main()
