//! `cargo xtask completions`: prints a completion script for `drydock` and `cargo xtask`, or the manual page.

use std::io::{self, Write as _};

use anyhow::Result;
use clap_complete::Shell;

use crate::{
    diagnostic::DONE,
    flags::{self, Completions},
};

/// Bash asks one function about everything that begins with `cargo`: ours answers for `cargo xtask` and
/// leaves the rest to whatever answered before.
const BASH: &str = r#"
_xtask_before="$(complete -p cargo 2>/dev/null)"
_xtask_before="${_xtask_before##* -F }"
_xtask_before="${_xtask_before%% *}"
_cargo_xtask() {
    if [ "${COMP_WORDS[1]}" = xtask ]; then
        COMP_WORDS=(drydock "${COMP_WORDS[@]:2}")
        COMP_CWORD=$((COMP_CWORD - 1))
        _drydock drydock "$2" "$3"
    elif [ -n "$_xtask_before" ] && [ "$_xtask_before" != _cargo_xtask ]; then
        "$_xtask_before" "$@"
    fi
}
complete -F _cargo_xtask -o nosort -o bashdefault -o default cargo
"#;

/// The same for zsh.
const ZSH: &str = r#"
_cargo_xtask() {
    if [[ ${words[2]} == xtask ]]; then
        shift words
        (( CURRENT-- ))
        _drydock "$@"
    elif (( $+functions[_cargo] )) || autoload -U +X _cargo 2>/dev/null; then
        _cargo "$@"
    fi
}
compdef _cargo_xtask cargo
"#;

/// The same for fish: completions of one command are asked for the rest of the line.
const FISH: &str = r#"
complete -c cargo -n "__fish_seen_subcommand_from xtask" -f -a '(complete --do-complete (commandline --cut-at-cursor --current-process | string replace -r "^\s*cargo\s+xtask" "drydock"))'
"#;

pub fn run(flags: &Completions) -> Result<u8> {
    io::stdout().lock().write_all(&flags.what.shell().map_or_else(manual, |shell| Ok(script(shell)))?)?;
    Ok(DONE)
}

/// The manual page, for man(1).
fn manual() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(flags::command("drydock")).render(&mut page)?;
    Ok(page)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut flags::command("drydock"), "drydock", &mut script);
    script.extend_from_slice(match shell {
        Shell::Bash => BASH.as_bytes(),
        Shell::Zsh => ZSH.as_bytes(),
        Shell::Fish => FISH.as_bytes(),
        // The other shells complete `drydock`, which is what an installed program is called.
        _ => b"",
    });
    script
}
