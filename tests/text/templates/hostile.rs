//! Templates of the kind that strangers send.

/// Templates that would take the machine with them, each by a way of its own.
pub fn templates() -> Vec<(String, String)> {
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
    add("doubling-batch", loops("l = [ns.l]|batch(2, ns.l)|list"));
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
    add(
        "macro-arguments",
        "{% macro m(aaaaaaaaaaaaaaaaaaaaa) %}{% endmacro %}{{ (m.arguments * 90000000) ~ '' }}"
            .into(),
    );
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
            deep("{% if 1 %}", 12_000),
            deep("{% endif %}", 12_000)
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
