//! Reading one JSON object of a configuration, with errors that carry the dotted path of the key.

use serde_json::Value;

use super::ModelConfigError;

/// No dimension of a real model comes near this; a larger one is a damaged file and would overflow size arithmetic.
const MAX_DIMENSION: u64 = 1 << 24;

/// One object of the file and the path at which it was found.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Fields<'a> {
    pub(super) fn root(value: &'a Value) -> Result<Self, ModelConfigError> {
        Self::object(String::new(), value)
    }

    fn object(path: String, value: &'a Value) -> Result<Self, ModelConfigError> {
        if value.is_object() {
            return Ok(Self { path, value });
        }
        let key = if path.is_empty() {
            "(the whole file)".into()
        } else {
            path
        };
        Err(ModelConfigError::Invalid {
            key,
            value: shown(value),
            expected: "an object".into(),
        })
    }

    /// The dotted path of `key` in the file.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of `key`; a JSON null counts as absent, which is how configurations are written.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn section(&self, key: &str) -> Result<Option<Fields<'a>>, ModelConfigError> {
        self.get(key)
            .map(|value| Self::object(self.key(key), value))
            .transpose()
    }

    pub(super) fn missing(&self, key: &str, expected: &'static str) -> ModelConfigError {
        ModelConfigError::Missing {
            key: self.key(key),
            expected,
        }
    }

    pub(super) fn invalid(&self, key: &str, value: &Value, expected: &str) -> ModelConfigError {
        ModelConfigError::Invalid {
            key: self.key(key),
            value: shown(value),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn unsupported(
        &self,
        key: &str,
        value: &Value,
        supported: &'static str,
    ) -> ModelConfigError {
        ModelConfigError::Unsupported {
            key: self.key(key),
            value: shown(value),
            supported,
        }
    }

    /// A whole number of at most [`MAX_DIMENSION`].
    pub(super) fn whole_or(&self, key: &str, absent: usize) -> Result<usize, ModelConfigError> {
        self.get(key)
            .map_or(Ok(absent), |value| self.whole_value(key, value))
    }

    pub(super) fn whole(&self, key: &str) -> Result<usize, ModelConfigError> {
        let value = self
            .get(key)
            .ok_or_else(|| self.missing(key, "a whole number"))?;
        self.whole_value(key, value)
    }

    /// A dimension: a whole number that is not zero.
    pub(super) fn dimension(&self, key: &str) -> Result<usize, ModelConfigError> {
        let whole = self.whole(key)?;
        if whole == 0 {
            return Err(self.invalid(key, &Value::from(0), "at least 1"));
        }
        Ok(whole)
    }

    fn whole_value(&self, key: &str, value: &Value) -> Result<usize, ModelConfigError> {
        match value.as_u64() {
            Some(whole) if whole <= MAX_DIMENSION => Ok(whole as usize),
            _ => Err(self.invalid(key, value, "a whole number from 0 to 16777216")),
        }
    }

    pub(super) fn wholes(&self, key: &str) -> Result<Option<Vec<usize>>, ModelConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let list = value
            .as_array()
            .ok_or_else(|| self.invalid(key, value, "a list of whole numbers"))?;
        list.iter()
            .map(|item| self.whole_value(key, item))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    pub(super) fn token(&self, key: &str) -> Result<Option<u32>, ModelConfigError> {
        Ok(self
            .get(key)
            .map(|value| self.whole_value(key, value))
            .transpose()?
            .map(|id| id as u32))
    }

    /// A token id or a list of them; none where the key is absent.
    pub(super) fn tokens(&self, key: &str) -> Result<Vec<u32>, ModelConfigError> {
        match self.get(key) {
            Some(Value::Array(list)) => {
                let ids = list.iter().map(|item| self.whole_value(key, item));
                ids.map(|id| id.map(|id| id as u32)).collect()
            }
            _ => Ok(self.token(key)?.into_iter().collect()),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ModelConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| self.invalid(key, value, "true or false"))
    }

    /// A finite number above zero.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f32>, ModelConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64().map(|number| number as f32) {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(self.invalid(key, value, "a number above 0")),
        }
    }

    /// Refuses any value of `key` but `only`; absence is accepted.
    pub(super) fn only(&self, key: &str, only: &'static str) -> Result<(), ModelConfigError> {
        match self.get(key) {
            Some(value) if value.as_str() != Some(only) => Err(self.unsupported(key, value, only)),
            _ => Ok(()),
        }
    }
}

/// A value for a message: cut short, because files may hold anything.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        text
    } else {
        text.chars().take(57).chain("...".chars()).collect()
    }
}
