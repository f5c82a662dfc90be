//! What settings may be.

use sage_actors::config::Bound;

/// Types of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// A memory limit, or `auto`.
    Limit,
    /// An integer, or `auto`.
    WholeOrAuto,
    /// A boolean.
    Flag,
    /// An integer.
    Whole,
    /// A floating-point number; an integer will do.
    Number,
    /// So many numbers.
    Numbers(usize),
    /// One of these names.
    Choice(Vec<&'static str>),
}

/// What a setting's number must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Finite.
    Any,
    /// As the mind says.
    Mind(Bound),
    /// 1 or more.
    AtLeastOne,
    /// Finite, and 0 or more.
    ZeroOrMore,
    /// In (0, 1].
    AboveZeroAtMostOne,
}

impl Rule {
    /// Whether a value keeps to it; NaN never does.
    pub fn admits(self, value: f64) -> bool {
        match self {
            Self::Any => value.is_finite(),
            Self::Mind(bound) => bound.admits(value),
            Self::AtLeastOne => value >= 1.0,
            Self::ZeroOrMore => value >= 0.0 && value.is_finite(),
            Self::AboveZeroAtMostOne => value > 0.0 && value <= 1.0,
        }
    }

    /// In words that stand alone, behind the name of an option.
    pub fn words(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Mind(bound) => bound.rule(),
            Self::AtLeastOne => "at least 1",
            Self::ZeroOrMore => "0 or more",
            Self::AboveZeroAtMostOne => "above 0 and at most 1",
        }
    }
}

/// What a kind of setting may be, in words; with its bound for numbers.
pub(super) fn expected(kind: &SettingKind, rule: Rule) -> String {
    let bound = match (rule, rule.words()) {
        (Rule::Any, _) => String::new(),
        (Rule::AtLeastOne | Rule::ZeroOrMore, words) => format!(", {words}"),
        (_, words) => format!(" {words}"),
    };
    match kind {
        SettingKind::Limit => {
            "auto, none, or a size such as 512MiB, 6GiB, 25% or 64slots".to_owned()
        }
        SettingKind::WholeOrAuto => format!("auto, or a whole number{bound}"),
        SettingKind::Flag => "true or false".to_owned(),
        SettingKind::Whole => format!("a whole number{bound}"),
        SettingKind::Number => format!("a number{bound}"),
        SettingKind::Numbers(count) => format!("{count} numbers, each{bound}"),
        SettingKind::Choice(names) => match names.as_slice() {
            [others @ .., last] if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => names.join(", "),
        },
    }
}
