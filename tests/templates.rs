//! Chat templates: rendered as transformers renders them, and as programs of strangers.
//!
//! `tests/export_templates.py` made what is compared with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sage::engine::template::{ChatTemplate, Message, TemplateArgs, TemplateInput};
use sage::engine::text::TextError;
use sage::store::open_model;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The model of the repository without its template; `files` beside it.
fn model(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny");
    for entry in fs::read_dir(own).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() && entry.file_name() != "chat_template.json" {
            symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        fs::write(path, text).unwrap();
    }
    folder
}

fn load(folder: &Path, args: TemplateArgs) -> Result<ChatTemplate, TextError> {
    ChatTemplate::load(&*open_model(folder).unwrap(), args)
}

fn args(pairs: &[&str]) -> TemplateArgs {
    let mut args = TemplateArgs::default();
    for pair in pairs {
        args.parse(pair).unwrap();
    }
    args
}

fn rendered(folder: &TempDir, pairs: &[&str]) -> String {
    let template = load(folder.path(), args(pairs)).unwrap();
    let messages = [Message::new("user", "Hi")];
    let input = TemplateInput {
        messages: &messages,
        add_generation_prompt: true,
        ..TemplateInput::default()
    };
    match template.render(&input) {
        Ok(text) => text,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn conversations_render_as_transformers_renders_them() {
    let fixture = include_str!("fixtures/templates.json");
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    let (mut compared, mut refused) = (0, 0);
    for set in fixture["sets"].as_array().unwrap() {
        let config = serde_json::to_string(&set["tokenizer_config"]).unwrap();
        let folder = model(&[("tokenizer_config.json", &config)]);
        for case in set["cases"].as_array().unwrap() {
            let of = format!("{} {}", set["name"], case);
            let messages = &fixture["conversations"][case["conversation"].as_str().unwrap()];
            let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
            let list = |key: &str| case["options"][key].as_array().cloned().unwrap_or_default();
            let (tools, documents) = (list("tools"), list("documents"));
            let mut args = TemplateArgs::default();
            args.set("strftime_now", fixture["now"].clone()).unwrap();
            for (key, value) in case["options"].as_object().unwrap() {
                if !["tools", "documents"].contains(&key.as_str()) {
                    args.set(key, value.clone()).unwrap();
                }
            }
            let result = load(folder.path(), args).unwrap().render(&TemplateInput {
                messages: &messages,
                tools: &tools,
                documents: &documents,
                add_generation_prompt: case["add_generation_prompt"] == true,
            });
            match (case["rendered"].as_str(), result) {
                (Some(expected), result) => {
                    assert_eq!(result.as_deref().ok(), Some(expected), "{of}: {result:?}");
                    compared += 1;
                }
                (None, result) => {
                    let error = result.expect_err(&of).to_string();
                    assert!(
                        error.contains(case["refused"].as_str().unwrap()),
                        "{of}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(compared >= 140 && refused >= 2, "{compared} and {refused}");
}

#[test]
fn a_template_is_found_where_transformers_finds_it() {
    let config = json!({"chat_template": "config", "eos_token": "<e>"}).to_string();
    let config = ("tokenizer_config.json", config.as_str());
    let legacy = ("chat_template.json", r#"{"chat_template": "json"}"#);
    let jinja = ("chat_template.jinja", "jinja{{ eos_token }}");
    let text_only = |files: &[(&str, &str)]| {
        let folder = model(files);
        let _ = fs::remove_file(folder.path().join("preprocessor_config.json"));
        folder
    };
    assert_eq!(rendered(&model(&[config]), &[]), "config");
    assert_eq!(rendered(&model(&[config, jinja]), &[]), "jinja<e>");
    // A processor takes its old file first; a tokenizer does not know that file.
    assert_eq!(rendered(&model(&[config, jinja, legacy]), &[]), "json");
    assert_eq!(
        rendered(&text_only(&[config, jinja, legacy]), &[]),
        "jinja<e>"
    );
    assert_eq!(rendered(&text_only(&[config, legacy]), &[]), "json");
    let named = [
        config,
        ("additional_chat_templates/default.jinja", "named"),
        ("additional_chat_templates/rag.jinja", "rag"),
    ];
    assert_eq!(rendered(&model(&named), &[]), "named");
    // Plain ChatML where there is none.
    let none = ("tokenizer_config.json", "{}");
    assert_eq!(
        rendered(&model(&[none]), &[]),
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    let map = json!({"chat_template": {"a": "x", "default": "mapped"}}).to_string();
    let map = model(&[("tokenizer_config.json", &map)]);
    assert_eq!(rendered(&map, &[]), "mapped");
}

#[test]
fn what_is_no_template_is_named_with_its_file_and_key() {
    for (template, expected) in [
        (
            json!(7),
            "chat_template is a number, expected a text, a list",
        ),
        (
            json!([7]),
            "chat_template[0].name is missing, expected a text",
        ),
        (
            json!([{"name": "a", "template": []}]),
            "chat_template[0].template is a list, expected a text",
        ),
        (
            json!({"default": true}),
            "chat_template.default is true or false, expected a text",
        ),
    ] {
        let config = json!({ "chat_template": template }).to_string();
        let folder = model(&[("tokenizer_config.json", &config)]);
        let error = load(folder.path(), args(&[]))
            .err()
            .expect(expected)
            .to_string();
        assert!(
            error.contains("tokenizer_config.json") && error.contains(expected),
            "{error}"
        );
    }
    let no_default =
        json!({"chat_template": [{"name": "b", "template": ""}, {"name": "a", "template": ""}]});
    let folder = model(&[("tokenizer_config.json", &no_default.to_string())]);
    let template = load(folder.path(), args(&[])).unwrap();
    let error = template
        .render(&TemplateInput::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none of the templates is named `default`; there are a, b"),
        "{error}"
    );
}

#[test]
fn arguments_are_json_or_text_and_the_clock_is_one_of_them() {
    let show = (
        "chat_template.jinja",
        "{{ [a, b, c, d] }}{{ strftime_now('%Y-%m-%d %H:%M:%S') }}",
    );
    let folder = model(&[show]);
    let given = [
        "a=false",
        "b=two words",
        "c=[1, \"x\"]",
        "d=",
        "strftime_now=2026-02-03",
    ];
    assert_eq!(
        rendered(&folder, &given),
        "[False, 'two words', [1, 'x'], '']2026-02-03 00:00:00"
    );
    // Without one it is the time at which the model was opened, and then it stays.
    let template = load(folder.path(), args(&[])).unwrap();
    let first = template.render(&TemplateInput::default()).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(template.render(&TemplateInput::default()).unwrap(), first);
    let again = load(folder.path(), template.args().clone()).unwrap();
    assert_eq!(again.render(&TemplateInput::default()).unwrap(), first);

    let error = load(folder.path(), args(&["strftime_now=noon"]))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("expected a time such as 2026-"),
        "{error}"
    );
    let parse = |pair: &str| TemplateArgs::default().parse(pair).unwrap_err();
    assert!(parse("messages=[]").contains("no argument"));
    assert!(parse("x").contains("KEY=VALUE"));
    assert!(parse("a-b=1").contains("no name"));
}

#[test]
fn a_long_conversation_has_the_fuel_that_it_needs() {
    let fixture = include_str!("fixtures/templates.json");
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    for set in fixture["sets"].as_array().unwrap() {
        let name = set["name"].as_str().unwrap();
        if !["omni", "thinker", "coder"].contains(&name) {
            continue;
        }
        let config = serde_json::to_string(&set["tokenizer_config"]).unwrap();
        let folder = model(&[("tokenizer_config.json", &config)]);
        let turns = (0..4000).map(|n| match n % 2 {
            0 => Message::new("user", format!("Question {n} {}", "word ".repeat(n % 50))),
            _ => Message::new("assistant", format!("<think>\nhm\n</think>\n\nAnswer {n}")),
        });
        let messages: Vec<Message> = turns.collect();
        let long = [Message::new("user", "long ".repeat(2_000_000))];
        for messages in [&messages[..], &long[..]] {
            let text = load(folder.path(), args(&[]))
                .unwrap()
                .render(&TemplateInput {
                    messages,
                    add_generation_prompt: true,
                    ..TemplateInput::default()
                });
            let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(text.ends_with("<|im_start|>assistant\n"), "{name}");
        }
    }
}

/// Templates that would take the machine with them, each by a way of its own.
fn hostile() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, source: String| all.push((name.to_owned(), source));
    let deep = |part: &str, n: usize| part.repeat(n);
    let loops = |set: &str| {
        format!(
            "{{% set ns = namespace(x='aaaaaaaaaaaaaaaa', l=[1], d={{'a': 1}}) %}}{{% for a in range(60) %}}{{% set ns.{set} %}}{{% endfor %}}{{{{ ns.x|length }}}}{{{{ ns.l|string|length }}}}{{{{ ns.d|string|length }}}}"
        )
    };
    add("indent", "{{ 'a\nb'|indent(4000000000) }}".into());
    add(
        "tojson-indent",
        "{{ {'a':1}|tojson(indent=4000000000) }}".into(),
    );
    add(
        "tojson-indent-text",
        "{% set i = 'x' * 100000 %}{{ range(100000)|list|tojson(indent=i)|length }}".into(),
    );
    add(
        "tojson-separators",
        "{% set i = 'x' * 100000 %}{{ range(100000)|list|tojson(separators=(i, i))|length }}"
            .into(),
    );
    add("doubling", loops("x = ns.x ~ ns.x"));
    add("doubling-plus", loops("x = ns.x + ns.x"));
    add("doubling-lists", loops("l = ns.l + ns.l"));
    add("doubling-times", loops("x = ns.x * 2"));
    add("doubling-replace", loops("x = ns.x|replace('a', 'aa')"));
    add(
        "doubling-replace-method",
        loops("x = ns.x.replace('', ns.x)"),
    );
    add("doubling-join", loops("x = ns.x.join([ns.x, ns.x, ns.x])"));
    add("doubling-format", loops("x = '%s%s'|format(ns.x, ns.x)"));
    add("doubling-format-method", loops("x = '{0}{0}'.format(ns.x)"));
    add("doubling-nested", loops("l = [ns.l, ns.l]"));
    add("doubling-mapping", loops("d = {'a': ns.d, 'b': ns.d}"));
    add("doubling-dict", loops("d = dict(a=ns.d, b=ns.d)"));
    add("doubling-tuple", loops("l = (ns.l, ns.l)"));
    add("doubling-bare-tuple", loops("l = ns.l, ns.l"));
    add("doubling-batch", loops("l = [1]|batch(2, ns.l)|list"));
    add("doubling-upper", loops("x = ns.x.upper() ~ ns.x.title()"));
    add("doubling-set-block", "{% set ns = namespace(x='aaaa') %}{% for a in range(60) %}{% set b %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = b %}{% endfor %}".into());
    add("comparing", "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}".into());
    add("sorting", "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ [ns.a, ns.b]|sort|length }}".into());
    add("concatenating", "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ (ns.a ~ 'x')|length }}".into());
    add("tojson-shared", "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a|tojson|length }}".into());
    add(
        "in-itself",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".into(),
    );
    add(
        "in-itself-in-a-list",
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns ~ 'x' }}".into(),
    );
    add("deep-list", "{% set ns = namespace(x=[]) %}{% for a in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}".into());
    add("deep-slices", "{% set ns = namespace(x=range(1000)|list) %}{% for a in range(100000) %}{% set ns.x = ns.x[0:] %}{% endfor %}{{ ns.x|length }}".into());
    add("string-times", "{{ 'x' * 90000000 }}".into());
    add("list-times", "{{ ([1] * 90000000)|string|length }}".into());
    add("range-times", "{{ (range(100000) * 900) ~ '' }}".into());
    add(
        "list-filter-times",
        "{{ ('ab'|list * 50000000) ~ '' }}".into(),
    );
    add("range-nested", "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}x".into());
    add("range-output", "{% for a in range(100000) %}{% for b in range(100000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}".into());
    add(
        "batch",
        "{{ [1]|batch(4000000000, 'x')|list|length }}".into(),
    );
    add("slice", "{{ [1]|slice(4000000000)|list|length }}".into());
    add(
        "join",
        "{{ range(100000)|join('x' * 100000)|length }}".into(),
    );
    add(
        "join-method",
        "{{ ('x' * 100000).join(range(100000)|map('string')|list)|length }}".into(),
    );
    add("format", "{{ '%4000000000d'|format(1) }}".into());
    add("format-method", "{{ '{:>4000000000}'.format(1) }}".into());
    add(
        "format-precision",
        "{{ '{:.4000000000f}'.format(1.0) }}".into(),
    );
    add(
        "replace",
        "{{ ('x' * 100000)|replace('', 'y' * 100000)|length }}".into(),
    );
    add("center", "{{ 'x'.center(4000000000) }}".into());
    add("ljust", "{{ 'x'.ljust(4000000000) }}".into());
    add("zfill", "{{ 'x'.zfill(4000000000) }}".into());
    add(
        "split",
        "{% for i in range(1000) %}{{ ('x,' * 1000000).split(',')|length }}{% endfor %}".into(),
    );
    add("strftime", "{{ strftime_now('%4000000000d') }}".into());
    add(
        "macro",
        "{% macro m(a) %}{{ m(a) }}{{ m(a) }}{% endmacro %}{{ m(1) }}".into(),
    );
    add(
        "macro-doubling",
        "{% macro m(a) %}{{ m(a + a) }}{% endmacro %}{{ m([1]|list) }}".into(),
    );
    add("macro-batch", "{% macro m(a, n) %}{% if n %}{{ m(a|batch(2, a)|list, n - 1) }}{% else %}{{ a|string|length }}{% endif %}{% endmacro %}{{ m([1], 45) }}".into());
    add(
        "recursive-loop",
        "{% for a in [[1]] recursive %}{{ loop([a, a]) }}{{ loop([a, a]) }}{% endfor %}".into(),
    );
    add("call-block", "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% macro r(n) %}{% call m() %}{% if n %}{{ r(n - 1) }}{% endif %}xxxxxxxx{% endcall %}{% endmacro %}{{ r(60) }}".into());
    add("include", "{% include 'default' %}".into());
    add("import", "{% import 'default' as x %}".into());
    add("comparing-texts", "{% set a = 'x' * 3000000 %}{% set b = a ~ '' %}{% for i in range(100000) %}{% if a == b %}{% endif %}{% endfor %}{% for i in range(100000) %}{% endfor %}".into());
    let n = 120_000;
    for (name, part) in [
        ("not", "not "),
        ("minus", "-"),
        ("parentheses", "("),
        ("brackets", "["),
        ("braces", "{1:"),
        ("calls", "f("),
    ] {
        add(
            &format!("deep-{name}"),
            format!("{{{{ {}x }}}}", deep(part, n / part.len())),
        );
        add(
            &format!("deep-{name}-4000"),
            format!("{{{{ {}x }}}}", deep(part, 4000 / part.trim().len())),
        );
    }
    for (name, part) in [
        ("attributes", ".b"),
        ("plus", "+a"),
        ("tilde", "~a"),
        ("filters", "|e"),
        ("indices", "[0]"),
        ("conditions", " if a else a"),
        ("tests", " is a"),
        ("and", " and a"),
        ("power", "**a"),
        ("called", "()"),
    ] {
        add(
            &format!("chain-{name}"),
            format!("{{{{ a{} }}}}", deep(part, n / part.len())),
        );
    }
    add(
        "deep-blocks",
        format!(
            "{}{}",
            deep("{% if 1 %}", 20_000),
            deep("{% endif %}", 20_000)
        ),
    );
    add("deep-for", deep("{% for a in [1] %}", 12_000));
    add(
        "deep-elif",
        format!("{{% if 0 %}}{}{{% endif %}}", deep("{% elif 0 %}", 20_000)),
    );
    add("large", deep("x", 300_000));
    add(
        "constants",
        deep(&format!("{{{{ 1{} }}}}", deep("+1", 2000)), 60) + "{{ raise_exception('done') }}",
    );
    for (name, source) in [
        ("no-end", "{% if x %}"),
        ("no-tag", "{% whatever %}"),
        ("open", "{{ x"),
        ("text", "{{ 'x }}"),
        ("closing", "{{ (] }}"),
        ("function", "{{ nothing_of_the_kind() }}"),
        ("filter", "{{ 1|nothing }}"),
        ("exception", "{{ raise_exception('\x1b[31mno\n') }}"),
        ("undefined", "{{ a.b.c }}"),
    ] {
        add(&format!("broken-{name}"), source.into());
    }
    all
}

#[test]
fn a_hostile_template_ends_in_order() {
    let mut wrong = String::new();
    for (name, source) in hostile() {
        let folder = model(&[("chat_template.jinja", &source)]);
        let started = Instant::now();
        // Bytes that are mapped bound those that are resident; the time is the machine's, which may be busy.
        let mut command = Command::new("sh");
        let script = "ulimit -v 1500000; ulimit -t 20; exec \"$0\" \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_sage")]);
        command.arg("generate").arg(folder.path());
        command.args(["--prompt", "hi", "--max-tokens", "1", "--threads", "1"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let ends = output.status.code() == Some(2);
        let named = error.contains("the chat template") && error.contains("chat_template.jinja");
        let clean = !error.contains("panicked") && !error.contains('\x1b');
        if !(ends && named && clean && started.elapsed() < Duration::from_secs(20)) {
            let took = started.elapsed();
            writeln!(
                wrong,
                "{name}: {} in {took:.1?}: {error:.300}",
                output.status
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn generate(folder: &TempDir, more: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sage"))
        .arg("generate")
        .arg(folder.path())
        .args([
            "--prompt",
            "Tom lives in Rome. Where does Tom live?",
            "--max-tokens",
            "4",
        ])
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn arguments_of_the_command_line_reach_the_template() {
    let folder = model(&[(
        "chat_template.jinja",
        "{{ raise_exception('thinking: ' ~ enable_thinking) }}",
    )]);
    let (code, _, error) = generate(&folder, &["--template-arg", "enable_thinking=false"]);
    assert!(
        code == Some(2) && error.contains("thinking: False"),
        "{error}"
    );
    let (code, _, error) = generate(&folder, &["--template-arg", "nonsense"]);
    assert!(
        code == Some(2) && error.contains("--template-arg") && error.contains("KEY=VALUE"),
        "{error}"
    );
}

#[test]
fn thoughts_stand_apart_from_the_answer() {
    let chatml = "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}";
    let plain = model(&[("chat_template.jinja", chatml)]);
    let (_, said, _) = generate(&plain, &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (said["text"].as_str(), said.get("reasoning")),
        (Some("Rome"), None)
    );
    // The prompt opens the thoughts, and the answer never closes them.
    let opened = model(&[(
        "chat_template.jinja",
        &format!("{chatml}{{{{ '<think>\\n' if open }}}}"),
    )]);
    let open = ["--template-arg", "open=true"];
    let (_, thought, _) = generate(&opened, &[&open[..], &["--json"]].concat());
    let thought: Value = serde_json::from_str(&thought).unwrap();
    assert_eq!(thought["text"], "");
    let reasoning = thought["reasoning"].as_str().unwrap_or_default();
    assert!(!reasoning.is_empty(), "{thought}");
    let (code, shown, aside) = generate(&opened, &open);
    assert!(
        code == Some(0) && shown.trim().is_empty() && aside.contains(reasoning),
        "{shown:?} {aside:?}"
    );
}
