//! Arguments of the chat template: an option of every command that answers.

use clap::Args;

use super::CliError;
use super::text::TextArgs;
use crate::core::EngineError;
use crate::store::WeightSource;
use crate::text::Text;
use crate::text::template::TemplateArgs;

/// Options of the tokenizer and the chat template.
#[derive(Args, Debug, Default)]
pub struct TemplateOptions {
    /// A variable of the chat template, such as enable_thinking=false; the value is JSON, or else a text; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    template_arg: Vec<String>,
    #[command(flatten)]
    untrusted: TextArgs,
}

impl TemplateOptions {
    /// The tokenizer and the template of a model, with these arguments.
    pub fn text(&self, source: &dyn WeightSource) -> Result<Text, CliError> {
        let mut args = TemplateArgs::default();
        for pair in &self.template_arg {
            args.parse(pair)
                .map_err(|error| CliError::request(format!("--template-arg: {error}")))?;
        }
        let text = Text::load_with(source, args).map_err(EngineError::from)?;
        Ok(text.allowing_control_tokens(self.untrusted.allow_control_tokens))
    }
}
