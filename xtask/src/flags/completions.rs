//! Flags of what can be generated for shells and for man(1).

use clap::Args;
use clap_complete::Shell;

/// Print the completion script for a shell.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  source <(cargo xtask completions bash)                        this bash, now
  cargo xtask completions zsh > ~/.zfunc/_drydock                zsh, with ~/.zfunc in fpath
  cargo xtask completions fish > ~/.config/fish/conf.d/drydock.fish")]
pub struct Completions {
    /// The shell, or `man` for the manual page
    pub what: Completed,
}

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Completed {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
    Man,
}

impl Completed {
    pub fn shell(self) -> Option<Shell> {
        Some(match self {
            Self::Bash => Shell::Bash,
            Self::Elvish => Shell::Elvish,
            Self::Fish => Shell::Fish,
            Self::Powershell => Shell::PowerShell,
            Self::Zsh => Shell::Zsh,
            Self::Man => return None,
        })
    }
}
