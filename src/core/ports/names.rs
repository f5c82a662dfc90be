//! Modules as checkpoint and messages name them.

use sage_actors::protocol::{ExpertKey, Module};

use crate::checkpoint::Component;

/// A module's component in the checkpoint.
pub fn component_of(module: Module) -> Component {
    match module {
        Module::Thinker => Component::Thinker,
        Module::Talker => Component::Talker,
    }
}

/// A module's name in file names and messages.
pub fn module_name(module: Module) -> &'static str {
    component_of(module).name()
}

/// The name of an expert's module in file names and messages.
pub fn component_name(key: ExpertKey) -> &'static str {
    module_name(key.layer.module)
}
