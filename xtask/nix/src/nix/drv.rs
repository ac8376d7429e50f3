//! Reads what a `.drv` file says, which is the text of a derivation in the ATerm format.

use memchr::memmem;

/// The derivations and plain sources that a derivation names before its builder: `Derive([outputs],[inputDrvs],
/// [inputSrcs],…` (`derivations.cc` in Nix).
pub fn inputs(text: &[u8]) -> Vec<String> {
    let Some(start) = memmem::find(text, b"],[") else { return Vec::new() };
    // Inputs end where the system follows the list of sources: `],"x86_64-linux",`.
    let end = memmem::find(&text[start + 2..], b"],\"").map_or(text.len(), |at| start + 2 + at);
    paths(&text[start..end])
}

/// The paths of a derivation's outputs, which come first; none of one whose outputs are known only when they are built.
pub fn outputs(text: &[u8]) -> Vec<String> {
    paths(&text[..memmem::find(text, b"],[").unwrap_or(0)])
}

/// The texts in quotes that are paths.
fn paths(part: &[u8]) -> Vec<String> {
    let quotes: Vec<usize> = memchr::memchr_iter(b'"', part).collect();
    let words = quotes.chunks_exact(2).map(|pair| &part[pair[0] + 1..pair[1]]);
    words.filter(|word| word.starts_with(b"/")).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// True if the derivation's `requiredSystemFeatures` has kvm. The attribute is an environment variable or, with
/// structured attributes, part of `__json`.
pub fn demands_kvm(text: &[u8]) -> bool {
    const KEY: &[u8] = b"requiredSystemFeatures";
    let Some(at) = memmem::find(text, KEY) else { return false };
    let value = text[at + KEY.len()..].split(|c| b")]".contains(c)).next().unwrap_or_default();
    value.split(|c| !c.is_ascii_alphanumeric() && *c != b'-').any(|word| word == b"kvm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_a_derivation() {
        let text = br#"Derive([("dev","/nix/store/d","",""),("out","/nix/store/o","","")],[("/nix/store/a.drv",["out"])],[],"x","/b",[],[])"#;
        assert_eq!(outputs(text), ["/nix/store/d", "/nix/store/o"]);
        let floating = br#"Derive([("out","","r:sha256","")],[("/nix/store/a.drv",["out"])],[],"x","/b",[],[])"#;
        assert_eq!(outputs(floating), [] as [&str; 0]);
        assert_eq!(outputs(b"Derive("), [] as [&str; 0]);
    }

    #[test]
    fn inputs_of_a_derivation() {
        let text = br#"Derive([("out","/nix/store/o","","")],[("/nix/store/a.drv",["out"]),("/nix/store/b.drv",["out","dev"])],["/nix/store/s.sh"],"x86_64-linux","/bin/sh",[],[("name","x")])"#;
        assert_eq!(inputs(text), ["/nix/store/a.drv", "/nix/store/b.drv", "/nix/store/s.sh"]);
        let none = br#"Derive([("out","/nix/store/o","","")],[],[],"x86_64-linux","/bin/sh",[],[("name","x")])"#;
        assert_eq!(inputs(none), [] as [&str; 0]);
    }

    #[test]
    fn demands_are_read_from_both_forms_of_derivation() {
        let rows = [
            (
                r#"Derive([],[],[],"x","/b",[],[("name","n"),("requiredSystemFeatures","kvm nixos-test"),("s","y")])"#,
                true,
            ),
            (r#"("requiredSystemFeatures","nixos-test"),("kvm","1")])"#, false),
            (r#"("__json","{\"requiredSystemFeatures\":[\"nixos-test\",\"kvm\"],\"x\":1}")"#, true),
            (r#"("__json","{\"requiredSystemFeatures\":[\"kvm-like\"],\"x\":\"kvm\"}")"#, false),
            (r#"("name","kvm")"#, false),
        ];
        for (drv, expected) in rows {
            assert_eq!(demands_kvm(drv.as_bytes()), expected, "{drv}");
        }
    }
}
