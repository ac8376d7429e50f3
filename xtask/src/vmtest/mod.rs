//! Test derivations in, verdicts out; and the virtual machines that people and probes start.

pub mod firmware;
pub mod kvm;
mod kvm_guest;
