//! Nix, Git and other programs: how they are started, what they are asked, what they answer.

pub mod files;
pub mod git;
pub mod nix;
pub mod process;

use drydock_model::diagnostic;
