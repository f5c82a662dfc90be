//! Files of items: lines of JSON with `told` and `questions`.

use serde::Deserialize;

use super::settings::RecallSettings;
use crate::eval::EvalError;
use crate::input::{read_file_text, without_mark};
use crate::text::{Text, TextError};

/// A file is held in memory.
const MOST_BYTES: u64 = 1 << 28;

/// A question about what was told.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Question {
    pub question: String,
    pub answer: String,
}

/// What is told, and what is asked afterwards.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Item {
    /// Which group it is reported under.
    #[serde(default)]
    pub group: String,
    /// Texts, in their order.
    pub told: Vec<String>,
    pub questions: Vec<Question>,
}

impl Item {
    /// Tokens of all that is told.
    pub fn tokens(&self, text: &Text) -> Result<usize, TextError> {
        let counts = self.told.iter().map(|told| text.encode_untrusted(told));
        Ok(counts
            .collect::<Result<Vec<_>, _>>()?
            .iter()
            .map(Vec::len)
            .sum())
    }
}

/// The items of every file.
pub(super) fn load(settings: &RecallSettings) -> Result<Vec<Item>, EvalError> {
    let mut items = Vec::new();
    for path in &settings.items {
        let text = read_file_text(path, MOST_BYTES).map_err(|error| EvalError::File {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        let lines = without_mark(&text).lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let most = settings.most_items.unwrap_or(usize::MAX);
        for (at, line) in lines.take(most) {
            let problem = |problem: String| EvalError::Line {
                path: path.clone(),
                line: at + 1,
                problem,
            };
            let item: Item = serde_json::from_str(line).map_err(|error| {
                problem(format!(
                    "{error}; expected {{\"told\": [TEXT, …], \"questions\": [{{\"question\": …, \"answer\": …}}, …]}}"
                ))
            })?;
            if item.questions.is_empty() || item.told.iter().all(|told| told.trim().is_empty()) {
                return Err(problem("nothing is told, or nothing asked".to_owned()));
            }
            items.push(item);
        }
    }
    match items.is_empty() {
        true => Err(EvalError::File {
            path: settings.items.first().cloned().unwrap_or_default(),
            problem: "no items; expected a line of JSON each".to_owned(),
        }),
        false => Ok(items),
    }
}
