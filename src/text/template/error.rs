//! Why a template fails.

/// A chat template that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the chat template {origin}: {reason}")]
pub struct TemplateError {
    /// File, and key or name.
    pub origin: String,
    /// What is wrong, and in which line.
    pub reason: String,
}
