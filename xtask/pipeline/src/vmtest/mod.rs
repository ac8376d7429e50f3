//! Test derivations in, verdicts out; and the virtual machines that people and probes start.

pub mod accel;
pub mod disk;
pub mod firmware;
pub mod image;
pub mod kvm;
mod kvm_guest;
pub mod log;
pub mod machine;
pub mod place;
pub mod run;
