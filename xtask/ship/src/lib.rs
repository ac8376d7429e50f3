//! What leaves this machine: which devices may be written, and the writing.

mod buffer;
pub mod device;
pub mod judge;
pub mod medium;
pub mod order;

use drydock_model::diagnostic;
use drydock_nix::process;
