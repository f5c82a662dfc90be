//! A module's decoder, wherever it computes.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use crate::checkpoint::config::TextConfig;
use crate::input::KvPrecision;
use crate::model::Positions;
use crate::store::StoreError;

/// Rows whose logits are asked for at the same time, and so exist at the same time.
pub const LOGIT_ROWS: usize = 4;

/// Why a decoder cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The system has no memory for it.
    #[error("{what}: {source}")]
    Memory {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The device or machine that computes is gone.
    #[error("the decoder on {place} is lost: {reason}; start it again and open the model anew")]
    Lost {
        /// Where it computed.
        place: String,
        /// What happened.
        reason: String,
    },
    /// A weight that is read when it is needed.
    #[error(transparent)]
    Weights(#[from] StoreError),
    /// Rows or keys and values that another decoder made.
    #[error(
        "a decoder was given {what} of another decoder: this is a fault of the program, please report it"
    )]
    Foreign {
        /// What.
        what: &'static str,
    },
}

/// Some rows of hidden states, `[rows, hidden]`, where they were made.
///
/// A decoder or a host of the same device looks at its own type through [`Self::as_any`]; everybody else reads numbers.
pub trait HiddenRows: Send + Sync {
    /// How many rows there are.
    fn rows(&self) -> usize;

    /// The numbers, `[rows, hidden]`, row-major; borrowed where they are in this process's memory.
    ///
    /// # Errors
    /// When they cannot be fetched.
    fn read(&self) -> Result<Cow<'_, [f32]>, DecoderError>;

    /// As [`Self::read`], of rows that nobody needs any more.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn into_numbers(self: Box<Self>) -> Result<Vec<f32>, DecoderError>;

    /// The rows as their own type.
    fn as_any(&self) -> &dyn Any;

    /// The rows as their own type, to be changed.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// Rows that are nothing but numbers in this process's memory: what a host gives back that has no memory of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainRows {
    values: Vec<f32>,
    width: usize,
}

impl PlainRows {
    /// Rows of `width` numbers, `[rows, width]`; what is left of a last row that is not whole counts for none.
    pub fn new(values: Vec<f32>, width: usize) -> Self {
        Self {
            values,
            width: width.max(1),
        }
    }
}

impl HiddenRows for PlainRows {
    fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    fn read(&self) -> Result<Cow<'_, [f32]>, DecoderError> {
        Ok(Cow::Borrowed(&self.values))
    }

    fn into_numbers(self: Box<Self>) -> Result<Vec<f32>, DecoderError> {
        Ok(self.values)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// What enters a decoder, and where it stands.
pub struct DecoderInput<'a> {
    /// The rows.
    pub rows: InputRows<'a>,
    /// Of every row, its place on the three axes.
    pub positions: &'a Positions,
}

/// Rows that enter a decoder.
pub enum InputRows<'a> {
    /// Embeddings of tokens, some of them replaced by what was perceived.
    Tokens {
        /// Ids, each below the vocabulary's size.
        ids: &'a [u32],
        /// Number of a token among `ids`, and the row `[hidden]` that takes the place of its embedding.
        replaced: Vec<(usize, &'a [f32])>,
    },
    /// Rows as they are, `[rows, hidden]`.
    Numbers(Vec<f32>),
}

impl<'a> DecoderInput<'a> {
    /// Rows as they are, `[rows, hidden]`.
    pub fn numbers(rows: Vec<f32>, positions: &'a Positions) -> Self {
        Self {
            rows: InputRows::Numbers(rows),
            positions,
        }
    }
}

/// Rows of a sparse layer in front of its experts.
pub struct RoutedRows {
    /// Input of the experts: the normed rows, `[rows, hidden]`.
    pub input: Box<dyn HiddenRows>,
    /// Of the layer's router, `[rows, experts]`.
    pub logits: Vec<f32>,
}

/// What an expert gave for some of the rows, and how much each of them counts.
pub struct WeightedOutput<'a> {
    /// Rows that it worked on, ascending.
    pub rows: &'a [usize],
    /// Mixing weight of each.
    pub weights: &'a [f32],
    /// Its outputs, `[rows.len(), hidden]`.
    pub values: &'a dyn HiddenRows,
}

/// Keys and values of one sequence, where the decoder keeps them.
pub trait KvMemory: Send {
    /// The memory as its own type.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// A sequence of tokens that a decoder attends over.
///
/// How many of its tokens count is said here alone: a decoder writes keys and values of new rows behind the first
/// [`Self::len`], and whatever lies beyond is forgotten.
pub struct Sequence {
    memory: Box<dyn KvMemory>,
    capacity: usize,
    len: usize,
    /// What the position of a token is above its number.
    position_delta: f32,
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, capacity, .. } = self;
        write!(f, "Sequence({len} of {capacity} tokens)")
    }
}

impl Sequence {
    /// An empty sequence in a decoder's memory for `capacity` tokens.
    pub fn new(memory: Box<dyn KvMemory>, capacity: usize) -> Self {
        Self {
            memory,
            capacity,
            len: 0,
            position_delta: 0.0,
        }
    }

    /// Tokens in the sequence.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets every token beyond the first `len`; of none left, also where they stood.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if self.len == 0 {
            self.position_delta = 0.0;
        }
    }

    /// Position of the next token on every axis, where it is a word: tokens of pictures stand closer than they are many.
    pub fn next_position(&self) -> f32 {
        self.len as f32 + self.position_delta
    }

    /// From now on a token's position is its number and `delta`.
    pub fn set_position_delta(&mut self, delta: f32) {
        self.position_delta = delta;
    }

    /// Counts tokens that went through every layer.
    pub fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Where keys and values are.
    pub fn memory_mut(&mut self) -> &mut dyn KvMemory {
        &mut *self.memory
    }
}

/// A module's always-resident part: thinker or talker, but its routed experts.
///
/// One layer is `attend`, `route`, the experts of whoever hosts them, [`Self::add_experts`], [`Self::add_shared`]. Layers
/// are called in order; between two of them rows may be read, and [`Self::add_rows`] may add to them.
pub trait Decoder: Send + Sync {
    /// The numbers of its configuration: layers, hidden size, heads, experts, vocabulary.
    fn config(&self) -> &TextConfig;

    /// Names the arithmetic: equal names give equal bits.
    fn spec(&self) -> &str;

    /// Bytes of the keys and values of `tokens` tokens that are kept in `precision`; none where this model's cannot be.
    fn kv_bytes(&self, tokens: usize, precision: KvPrecision) -> Option<u64>;

    /// An empty sequence for up to `capacity` tokens, whose keys and values are kept in `precision`.
    ///
    /// # Errors
    /// When there is no memory for it, or [`Self::kv_bytes`] is none.
    fn new_sequence(
        &self,
        capacity: usize,
        precision: KvPrecision,
    ) -> Result<Sequence, DecoderError>;

    /// A sequence that holds the keys and values of one layer at a time, whichever attends, as they are computed: for whoever
    /// runs all of a text through one layer before it goes to the next.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn new_layer_sequence(&self, capacity: usize) -> Result<Sequence, DecoderError>;

    /// The rows that enter layer 0.
    ///
    /// # Errors
    /// When the decoder is lost, or an embedding cannot be read.
    fn embed(&self, input: DecoderInput<'_>) -> Result<Box<dyn HiddenRows>, DecoderError>;

    /// Adds the attention of a layer to rows that [`Self::embed`] made. Their keys and values are written behind the
    /// sequence's tokens, which do not count them yet. The caller sees to it that they fit.
    ///
    /// # Errors
    /// When the decoder is lost, or was given what another made.
    fn attend(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
        sequence: &mut Sequence,
    ) -> Result<(), DecoderError>;

    /// Normed rows and router logits of a sparse layer; none for a dense one, whose block is then already added to `x`.
    ///
    /// # Errors
    /// As [`Self::attend`].
    fn route(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
    ) -> Result<Option<RoutedRows>, DecoderError>;

    /// Logits `[rows, experts]` that a layer's router gives for another layer's normed rows; none for a dense layer.
    ///
    /// # Errors
    /// As [`Self::attend`].
    fn router_logits(
        &self,
        layer: usize,
        input: &dyn HiddenRows,
    ) -> Result<Option<Vec<f32>>, DecoderError>;

    /// Adds experts' outputs to `x` by weight: one after the other, in the order in which they stand here, each row
    /// `x += weight * value` in f32. **The order of the sum is the caller's**: it names experts in ascending order, over
    /// all calls for one layer, so that equal outputs give equal bits whoever computed them and whenever they came.
    ///
    /// # Errors
    /// As [`Self::attend`], and when outputs cannot be read.
    fn add_experts(
        &self,
        x: &mut dyn HiddenRows,
        outputs: &[WeightedOutput<'_>],
    ) -> Result<(), DecoderError>;

    /// Adds what every row gets beside its routed experts, after them: the shared expert of `input`, the layer's normed
    /// rows. Does nothing where the module has none.
    ///
    /// # Errors
    /// As [`Self::attend`].
    fn add_shared(
        &self,
        layer: usize,
        x: &mut dyn HiddenRows,
        input: &dyn HiddenRows,
    ) -> Result<(), DecoderError>;

    /// Adds to some rows of `x`: the number of a row, and what is added to it, `[hidden]`.
    ///
    /// # Errors
    /// As [`Self::attend`].
    fn add_rows(
        &self,
        x: &mut dyn HiddenRows,
        added: &[(usize, &[f32])],
    ) -> Result<(), DecoderError>;

    /// The rows behind the final norm, `[rows, hidden]`.
    ///
    /// # Errors
    /// As [`Self::attend`].
    fn final_norm(&self, x: &dyn HiddenRows) -> Result<Vec<f32>, DecoderError>;

    /// Logits `[rows, vocabulary]` of rows behind the final norm, `[rows, hidden]`. A run asks for [`LOGIT_ROWS`] at
    /// most, which memory is planned for.
    ///
    /// # Errors
    /// When the decoder is lost.
    fn logits(&self, normed: &[f32]) -> Result<Vec<f32>, DecoderError>;
}
