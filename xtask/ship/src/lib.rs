//! What leaves this machine: which devices may be written, and the writing; systems that are installed on other machines and
//! deployed to them.

mod buffer;
pub mod device;
pub mod extra;
pub mod guard;
pub mod install;
pub mod judge;
pub mod live;
pub mod medium;
pub mod order;
pub mod probe;
pub mod reboot;
pub mod remote;
pub mod turns;

use drydock_model::{base64, destination, diagnostic};
use drydock_nix::process;
