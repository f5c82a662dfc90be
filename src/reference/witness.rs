//! Who hears what the reference computes.

/// Hears what the reference computes, in the order of computation.
pub trait ReferenceProbe {
    /// A tensor of rows of `cols` numbers, by the golden files' name, row-major.
    fn tensor(&mut self, name: &str, cols: usize, values: &[f32]);

    /// The experts to use for a token: `own`, the greatest of the router's softmax, descending; or others that are as good,
    /// as far as `logits` (of all experts) can tell.
    fn choice(&mut self, layer: usize, token: usize, logits: &[f32], own: Vec<usize>)
    -> Vec<usize>;

    /// The experts that are used for a token, with their weights.
    fn gates(&mut self, layer: usize, token: usize, gates: &[(usize, f32)]);

    /// A layer is done.
    fn layer_done(&mut self, layer: usize);
}
