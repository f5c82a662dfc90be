//! What has names: choices that are written in settings, on the command line and in recordings.

/// One of a few, each with a name.
pub trait Named: Sized + Copy + 'static {
    /// All of them, with the settings that they have by default.
    const ALL: &'static [Self];

    /// As it is written; settings of its own are not part of the name.
    fn name(self) -> &'static str;

    /// What it is, in a line.
    fn summary(self) -> &'static str;

    /// All names.
    fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|one| one.name()).collect()
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`UnknownName`] where there is none.
    fn named(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.iter().copied().find(|one| one.name() == name);
        found.ok_or_else(|| UnknownName {
            name: name.to_owned(),
            known: Self::names(),
        })
    }
}

/// A name that none of them has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no `{name}`; expected {}", known.join(", "))]
pub struct UnknownName {
    /// As it was written.
    pub name: String,
    /// Those that there are.
    pub known: Vec<&'static str>,
}
