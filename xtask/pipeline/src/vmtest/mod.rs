//! Runs VM tests and judges them, and starts the virtual machines that people and probes ask for.

pub mod accel;
mod attempt;
pub mod disk;
pub mod driver;
pub mod firmware;

pub mod kvm;
mod kvm_guest;
pub mod log;
pub mod machine;
pub mod place;
mod screens;
pub mod session;
pub mod uninstalled;
mod verdict;

use anyhow::{Context as _, Result};

/// A port that nobody listens on now.
pub fn free_port() -> Result<u16> {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no port of the loopback is free")?;
    Ok(socket.local_addr()?.port())
}
