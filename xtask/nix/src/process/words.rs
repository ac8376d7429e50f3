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
    match !word.is_empty() && !word.starts_with('#') && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
