//! Encodes bytes as base64.

/// As in RFC 4648, section 4.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let at = bits >> (18 - 6 * digit) & 63;
            out.push(if digit > group.len() { '=' } else { DIGITS[at as usize].into() });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_its_padding() {
        for (bytes, expected) in
            [("", ""), ("h", "aA=="), ("he", "aGU="), ("hel", "aGVs"), ("\u{ff}\u{fe}", "w7/Dvg==")]
        {
            assert_eq!(encode(bytes.as_bytes()), expected);
        }
    }
}
