//! Names and words as a shell knows them: programs on PATH, and quoting.

use camino::Utf8PathBuf;

/// True if a program of that name is on PATH.
pub fn on_path(program: &str) -> bool {
    find_on_path(program).is_some()
}

/// The first executable file of that name on PATH.
pub fn find_on_path(program: &str) -> Option<Utf8PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter_map(|dir| Utf8PathBuf::from_path_buf(dir.join(program)).ok())
        .find(|file| rustix::fs::access(file.as_std_path(), rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}

/// Quotes one word for a POSIX shell, only where it must.
pub fn quote(word: &str) -> String {
    // `#` stands in every installable and is harmless inside a word; it starts a comment only at the front.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,^#".contains(c);
    if !word.is_empty() && !word.starts_with('#') && word.chars().all(plain) {
        return word.to_owned();
    }
    // What moves the cursor, begins a line of its own or turns the direction of writing is written out, as bash and zsh
    // read it.
    let deceptive = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match word.chars().any(deceptive) {
        true => {
            let escaped = word.chars().map(|c| match c {
                '\'' | '\\' => format!("\\{c}"),
                '\n' => "\\n".to_owned(),
                c if deceptive(c) => format!("\\u{:04x}", u32::from(c)),
                c => c.to_string(),
            });
            format!("$'{}'", escaped.collect::<String>())
        }
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Cancel, Invocation};

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        let rows = [
            ("plain/a-b_c.nix#x", "plain/a-b_c.nix#x"),
            ("", "''"),
            ("it's #1", r"'it'\''s #1'"),
            ("two\nlines", r"$'two\nlines'"),
            ("::error::\r\u{1b}[2J'\\", r"$'::error::\u000d\u001b[2J\'\\'"),
            ("gpj.\u{202e}exe", r"$'gpj.\u202eexe'"),
        ];
        for (word, expected) in rows {
            assert_eq!(quote(word), expected);
            let script = format!("printf '%s|' {expected}");
            let bash = Invocation::new(["bash", "-c", &script]).env("LC_ALL", "C.UTF-8");
            assert_eq!(bash.read(&Cancel::default()).unwrap(), format!("{word}|"));
        }
    }
}
