//! The mind of SAGE.
