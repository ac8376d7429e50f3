//! What leaves this machine: which devices may be written, and the writing; systems that are deployed to other machines.

mod buffer;
pub mod device;
pub mod guard;
pub mod judge;
pub mod medium;
pub mod order;
pub mod probe;
pub mod reboot;
pub mod remote;
pub mod turns;

use drydock_model::{destination, diagnostic};
use drydock_nix::process;
