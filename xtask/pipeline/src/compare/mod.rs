//! Compares two states of a fleet. Works on derivations, so that nothing has to be
//! built; where outputs exist their sizes are compared as well.

pub mod affected;
pub mod base;
pub mod derivation;
pub mod difference;
pub mod hosts;
pub mod name;
pub mod nixos;
pub mod packages;
pub mod snapshot;
