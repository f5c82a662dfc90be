//! Chat templates, rendered as transformers renders them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;

/// ChatML without a default system prompt: for models that ship no template.
const CHATML: &str = "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

/// The template of one model.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
}

impl Default for ChatTemplate {
    fn default() -> Self {
        Self::new(CHATML.to_owned())
    }
}

impl ChatTemplate {
    /// A template by its Jinja source.
    pub fn new(source: String) -> Self {
        Self { source }
    }

    /// Renders messages (a list of objects with `role` and `content`).
    ///
    /// Blocks are trimmed, and methods of Python's strings, lists and dictionaries work, as in transformers.
    ///
    /// # Errors
    /// When the template is not valid, or refuses the messages.
    pub fn render(
        &self,
        messages: &impl Serialize,
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()?,
        );
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        let messages = Value::from(Serde(messages));
        let template = environment.template_from_str(&self.source)?;
        template.render(context! { messages, add_generation_prompt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_render_as_the_reference_renders_them() {
        let text = include_str!("../../tests/fixtures/chat_template.json");
        let fixture: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let template =
            ChatTemplate::new(fixture["template"].as_str().expect("a template").to_owned());
        let cases = fixture["cases"].as_array().expect("cases");
        let mut compared = 0;
        for case in cases
            .iter()
            .filter(|case| case.get("enable_thinking").is_none())
        {
            let prompt = case["add_generation_prompt"] == true;
            let rendered = template
                .render(&case["messages"], prompt)
                .expect("a prompt");
            assert_eq!(
                Some(rendered.as_str()),
                case["rendered"].as_str(),
                "{}",
                case["name"]
            );
            compared += 1;
        }
        assert!(compared >= 10, "only {compared} of {} cases", cases.len());
    }

    #[test]
    fn a_template_can_refuse_and_use_methods() {
        let refusing = ChatTemplate::new("{{ raise_exception('no tools here') }}".into());
        let error = refusing
            .render(&serde_json::json!([]), true)
            .expect_err("refused");
        assert!(error.to_string().contains("no tools here"), "{error}");
        let method = ChatTemplate::new("{{ messages[0].content.strip().split(' ')[1] }}".into());
        let messages = serde_json::json!([{"role": "user", "content": " a b "}]);
        assert_eq!(method.render(&messages, true).expect("rendered"), "b");
    }

    #[test]
    fn without_a_template_it_is_chatml() {
        let messages = serde_json::json!([{"role": "user", "content": "Hi"}]);
        let rendered = ChatTemplate::default()
            .render(&messages, true)
            .expect("rendered");
        assert_eq!(
            rendered,
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }
}
