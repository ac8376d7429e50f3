//! A message and where it belongs in, text for a person out: what went wrong, where, and what to try.

use std::fmt;

/// An error that ends the program with an exit code of its own; anything else that fails is a failed job
/// or a defect and exits with 1.
#[derive(Debug)]
pub struct Stop {
    pub code: u8,
    text: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Stop {}

/// Wrong use or a wrong configuration: exit code 2.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Stop { code: 2, text: text.into() }.into()
}

/// The machine lacks something that the work needs: exit code 3.
pub fn lacking(text: impl Into<String>) -> anyhow::Error {
    Stop { code: 3, text: text.into() }.into()
}

/// The exit code that an error asks for.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Stop>().map_or(1, |stop| stop.code)
}

/// Prints an error and its causes for a person.
#[expect(clippy::print_stderr, reason = "this is where errors are printed")]
pub fn print_error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
