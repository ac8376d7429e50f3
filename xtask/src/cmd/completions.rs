//! `cargo xtask completions`: a shell in, its completion script out, for `cargo xtask` and for `xtask`.

use std::io::{self, Write as _};

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::DONE;
use crate::flags::{Completions, Xtask};

/// Bash asks one function about everything that begins with `cargo`: ours answers for `cargo xtask` and
/// leaves the rest to whatever answered before.
const BASH: &str = r#"
_xtask_before="$(complete -p cargo 2>/dev/null)"
_xtask_before="${_xtask_before##* -F }"
_xtask_before="${_xtask_before%% *}"
_cargo_xtask() {
    if [ "${COMP_WORDS[1]}" = xtask ]; then
        COMP_WORDS=("${COMP_WORDS[@]:1}")
        COMP_CWORD=$((COMP_CWORD - 1))
        _xtask xtask "$2" "$3"
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
        _xtask "$@"
    elif (( $+functions[_cargo] )) || autoload -U +X _cargo 2>/dev/null; then
        _cargo "$@"
    fi
}
compdef _cargo_xtask cargo
"#;

/// The same for fish: completions of one command are asked for the rest of the line.
const FISH: &str = r#"
complete -c cargo -n "__fish_seen_subcommand_from xtask" -f -a '(complete --do-complete (commandline --cut-at-cursor --current-process | string replace -r "^\s*cargo\s+" ""))'
"#;

pub fn run(flags: &Completions) -> Result<u8> {
    io::stdout().lock().write_all(&script(flags.shell))?;
    Ok(DONE)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let mut command = Xtask::command().name("xtask").bin_name("xtask");
    clap_complete::generate(shell, &mut command, "xtask", &mut script);
    script.extend_from_slice(match shell {
        Shell::Bash => BASH.as_bytes(),
        Shell::Zsh => ZSH.as_bytes(),
        Shell::Fish => FISH.as_bytes(),
        // The other shells complete `xtask`, which is what an installed program is called.
        _ => b"",
    });
    script
}
