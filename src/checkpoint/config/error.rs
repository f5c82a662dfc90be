//! What can be wrong with a `config.json`.

/// What is wrong with a `config.json`.
#[derive(Debug, thiserror::Error)]
pub enum ModelConfigError {
    /// The text is not JSON.
    #[error("config.json is not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A key that has no safe default is absent.
    #[error("config.json: `{key}` is missing; it must state {expected}")]
    Missing {
        /// Dotted path of the key.
        key: String,
        /// What the key should hold.
        expected: &'static str,
    },
    /// A key holds a value of the wrong kind or outside its range.
    #[error("config.json: `{key}` is {value}; expected {expected}")]
    Invalid {
        /// Dotted path of the key.
        key: String,
        /// The value found.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// The file asks for something that is not implemented.
    #[error("config.json: `{key}` is {value}, which is not supported; supported: {supported}")]
    Unsupported {
        /// Dotted path of the key.
        key: String,
        /// The value found.
        value: String,
        /// The values that are.
        supported: &'static str,
    },
}
