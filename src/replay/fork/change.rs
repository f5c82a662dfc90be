//! What is done otherwise.

use sage_actors::config::MindConfig;
use sage_actors::protocol::Tick;
use serde_json::Value;

use crate::input::known;
use crate::replay::ReplayError;

/// What is done otherwise, and from when on.
#[derive(Clone, Debug, Default)]
pub struct ForkChange {
    /// From this tick on.
    pub tick: Tick,
    /// Numbers of observations that do not happen.
    pub drop: Vec<u64>,
    /// Settings of the mind, `mind.KEY=VALUE`.
    pub set: Vec<String>,
}

impl ForkChange {
    /// The recorded mind with what was set.
    ///
    /// # Errors
    /// A key that is none, or a value that it cannot have.
    pub(super) fn mind(&self, recorded: &MindConfig) -> Result<MindConfig, ReplayError> {
        let refused = |message: String| ReplayError::Lacks(message);
        if self.set.is_empty() {
            return Ok(recorded.clone());
        }
        let mut all = serde_json::to_value(recorded).map_err(|e| refused(e.to_string()))?;
        for setting in &self.set {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| refused(format!("--set {setting}: expected mind.KEY=VALUE")))?;
            let key = key.trim();
            let path = key.strip_prefix("mind.").ok_or_else(|| {
                refused(format!(
                    "--set {key}: of a recording only settings of the mind can be changed; expected mind.KEY=VALUE"
                ))
            })?;
            *place(&mut all, key, path)? = value_of(value.trim());
        }
        let absent = recorded.absent.clone();
        let mind: MindConfig = serde_json::from_value(all)
            .map_err(|error| refused(format!("--set {}: {error}", self.set.join(" --set "))))?;
        let mind = MindConfig { absent, ..mind };
        mind.validate()
            .map_err(|error| refused(format!("--set {}: {error}", self.set.join(" --set "))))?;
        Ok(mind)
    }
}

/// Where a key stands.
fn place<'a>(all: &'a mut Value, key: &str, path: &str) -> Result<&'a mut Value, ReplayError> {
    let mut at = all;
    for name in path.split('.') {
        let table = at
            .as_object_mut()
            .ok_or_else(|| ReplayError::Lacks(format!("--set {key}: there is no such setting")))?;
        let names: Vec<String> = table.keys().cloned().collect();
        at = table.get_mut(name).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            ReplayError::Lacks(format!(
                "--set {key}: the recorded settings have no `{name}` there\n  hint: {}",
                known(name, &names)
            ))
        })?;
    }
    Ok(at)
}

/// A number, a word, a list or a table, as in JSON; a word needs no quotes.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sage_actors::config::{ModuleShape, RoutingPolicy};
    use sage_actors::protocol::Module;

    fn recorded() -> MindConfig {
        MindConfig {
            modules: vec![ModuleShape {
                module: Module::Thinker,
                layers: vec![0],
                experts: 4,
                k_trained: 2,
                expert_bytes: 10,
                norm_topk_prob: true,
                smaller: Vec::new(),
            }],
            pool_bytes: 100,
            ..MindConfig::default()
        }
    }

    fn changed(set: &[&str]) -> Result<MindConfig, String> {
        let change = ForkChange {
            set: set.iter().map(|one| (*one).to_owned()).collect(),
            ..ForkChange::default()
        };
        change.mind(&recorded()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_put_over_the_recorded_ones() {
        let mind = changed(&["mind.budgets.focus.f=0.25", "mind.routing=exact"]).unwrap();
        assert_eq!(mind.budgets.focus.f, 0.25);
        assert_eq!(mind.routing, RoutingPolicy::Exact);
        assert!(!recorded().changes_only_numbers(&mind));
        let mind = changed(&["mind.budgets.focus.f=0.25"]).unwrap();
        assert!(recorded().changes_only_numbers(&mind));
        for (set, said) in [
            ("mind.budgets.focus", "expected mind.KEY=VALUE"),
            ("session.limit=6GiB", "only settings of the mind"),
            ("mind.budgets.focus.g=1", "have no `g` there"),
            ("mind.budgets.focus.f.x=1", "no such setting"),
            ("mind.budgets.focus.f=-1", "budgets.focus.f"),
            ("mind.budgets.focus.f=much", "invalid type"),
        ] {
            let error = changed(&[set]).unwrap_err();
            assert!(error.contains(said), "{set}: {error}");
        }
    }
}
