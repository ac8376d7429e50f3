//! What a fleet consists of in; derivations that need no evaluation because nothing they depend on changed out.
pub mod depends;
pub mod digest;
pub mod need;
mod scan;
mod slice;
pub mod snapshot;
pub mod tree;
