//! The value of `--experts`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::checkpoint::Component;
use crate::cli::CliError;
use crate::input::{read_file_text, without_mark};
use crate::store::ExpertSelection;

/// A list of all experts of a model takes a hundredth of this.
const MAX_FILE_BYTES: u64 = 16 << 20;

type Expert = (Component, usize, usize);

/// `top:N`, or a file: lines of `[component] layer expert` with `#` comments, or a JSON list of such triples, pairs or
/// objects. A component that is not stated is the only selected one with experts, otherwise the thinker.
pub(super) fn parse(
    text: &str,
    components: &BTreeSet<Component>,
) -> Result<ExpertSelection, CliError> {
    if let Some(count) = text.strip_prefix("top:") {
        return match count.parse() {
            Ok(count) if count > 0 => Ok(ExpertSelection::TopByRouterNorm(count)),
            _ => Err(CliError::request(format!(
                "--experts {text}: expected top:N with N at least 1"
            ))),
        };
    }
    let mut with_experts = components
        .iter()
        .filter(|component| component.layers_prefix().is_some());
    let default = match (with_experts.next(), with_experts.next()) {
        (Some(&only), None) => only,
        _ => Component::Thinker,
    };
    let wrong = |problem: String| CliError::request(format!("--experts {text}: {problem}"));
    let content = read_file_text(Path::new(text), MAX_FILE_BYTES);
    let content = content.map_err(|error| wrong(error.to_string()))?;
    let content = without_mark(&content);
    let list = if content.trim_start().starts_with('[') {
        from_json(content, default)
    } else {
        from_lines(content, default)
    };
    let list = list.map_err(wrong)?;
    if list.is_empty() {
        return Err(wrong("names no expert".to_owned()));
    }
    Ok(ExpertSelection::Listed(list))
}

fn from_lines(content: &str, default: Component) -> Result<BTreeSet<Expert>, String> {
    let mut list = BTreeSet::new();
    for (number, line) in content.lines().enumerate() {
        let words: Vec<&str> = line
            .split('#')
            .next()
            .unwrap_or("")
            .split([' ', '\t', ','])
            .filter(|w| !w.is_empty())
            .collect();
        let expert = match words[..] {
            [] => continue,
            [layer, expert] => Some(default)
                .zip(layer.parse().ok())
                .zip(expert.parse().ok()),
            [component, layer, expert] => Component::from_name(component)
                .zip(layer.parse().ok())
                .zip(expert.parse().ok()),
            _ => None,
        };
        let Some(((component, layer), expert)) = expert else {
            return Err(format!(
                "line {}: expected `layer expert`, found {line:?}",
                number + 1
            ));
        };
        list.insert((component, layer, expert));
    }
    Ok(list)
}

fn from_json(content: &str, default: Component) -> Result<BTreeSet<Expert>, String> {
    let items: Vec<Value> = serde_json::from_str(content).map_err(|error| error.to_string())?;
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
    };
    let component = |value: &Value| value.as_str().and_then(Component::from_name);
    let one = |item: &Value| match item {
        Value::Array(parts) => match &parts[..] {
            [layer, expert] => Some((default, number(layer)?, number(expert)?)),
            [name, layer, expert] => Some((component(name)?, number(layer)?, number(expert)?)),
            _ => None,
        },
        Value::Object(fields) => {
            let component = fields.get("component").map_or(Some(default), component)?;
            Some((
                component,
                number(fields.get("layer")?)?,
                number(fields.get("expert")?)?,
            ))
        }
        _ => None,
    };
    let read =
        |item: &Value| one(item).ok_or_else(|| format!("expected [layer, expert], found {item}"));
    items.iter().map(read).collect()
}
