//! Splits the names of store paths and derivations as Nix splits them.

/// A package's name without its version, and the version, as `builtins.parseDrvName` splits them: the
/// version starts after the first dash that is not followed by a letter (`DrvName` in Nix's names.cc).
pub fn split(name: &str) -> (&str, &str) {
    let bytes = name.as_bytes();
    let dash =
        (0..bytes.len()).find(|&i| bytes[i] == b'-' && bytes.get(i + 1).is_some_and(|c| !c.is_ascii_alphabetic()));
    dash.map_or((name, ""), |i| (&name[..i], &name[i + 1..]))
}

/// The name in a store path: what follows the 32 characters of the hash and a dash.
pub fn of_path(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    match base.as_bytes().get(32) {
        Some(b'-') => &base[33..],
        _ => base,
    }
}

/// The text with the hash of every store path in it replaced by dots, so that two texts that differ only in
/// what their inputs were built from are equal.
pub fn without_hashes(text: &str) -> String {
    const HASH: usize = 32;
    // Nix's base-32 alphabet leaves out e, o, t and u.
    let is_hash = |s: &[u8]| s.iter().all(|c| c.is_ascii_digit() || (c.is_ascii_lowercase() && !b"eotu".contains(c)));
    let bytes = text.as_bytes();
    let (mut clean, mut kept, mut i) = (String::with_capacity(text.len()), 0, 0);
    while i + HASH <= bytes.len() {
        let starts = i == 0 || !bytes[i - 1].is_ascii_alphanumeric();
        let ends = bytes.get(i + HASH).is_none_or(|c| !c.is_ascii_alphanumeric());
        if starts && ends && is_hash(&bytes[i..i + HASH]) {
            clean.push_str(&text[kept..i]);
            clean.push_str("...");
            i += HASH;
            kept = i;
        } else {
            i += 1;
        }
    }
    clean.push_str(&text[kept..]);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_nix_splits_them() {
        // Each row is what `builtins.parseDrvName` answers.
        let rows = [
            ("hello-2.12.1", ("hello", "2.12.1")),
            ("hello", ("hello", "")),
            ("nix-command-line-2.26", ("nix-command-line", "2.26")),
            ("linux-6.12.8-modules", ("linux", "6.12.8-modules")),
            ("unit-a.service", ("unit-a.service", "")),
            ("a-", ("a-", "")),
            ("a--1", ("a", "-1")),
            ("python3.13-requests-2.32", ("python3.13-requests", "2.32")),
            ("7zip-24", ("7zip", "24")),
            ("x-_y", ("x", "_y")),
        ];
        for (name, expected) in rows {
            assert_eq!(split(name), expected, "{name}");
        }
    }

    #[test]
    fn names_of_paths() {
        let rows = [
            ("/nix/store/26623n6wyv200gira5w2lp1yb3715vnh-hello-2.12", "hello-2.12"),
            ("26623n6wyv200gira5w2lp1yb3715vnh-hello-2.12.drv", "hello-2.12.drv"),
            ("plain", "plain"),
        ];
        for (path, expected) in rows {
            assert_eq!(of_path(path), expected);
        }
    }

    #[test]
    fn hashes_vanish_and_nothing_else_does() {
        let rows = [
            ("a=/nix/store/26623n6wyv200gira5w2lp1yb3715vnh-hello/bin", "a=/nix/store/...-hello/bin"),
            ("26623n6wyv200gira5w2lp1yb3715vnh", "..."),
            ("26623n6wyv200gira5w2lp1yb3715vnhx", "26623n6wyv200gira5w2lp1yb3715vnhx"),
            ("äöü /nix/store/26623n6wyv200gira5w2lp1yb3715vnh-ä", "äöü /nix/store/...-ä"),
            ("eeee3n6wyv200gira5w2lp1yb3715vnh", "eeee3n6wyv200gira5w2lp1yb3715vnh"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(without_hashes(text), expected);
        }
    }
}
