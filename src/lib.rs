//! SAGE: a cognitive runtime for sparse models.
