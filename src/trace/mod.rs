//! Recorded runs. So far: the routing of other engines, for asking what another policy would have done with it.

pub mod routes;
