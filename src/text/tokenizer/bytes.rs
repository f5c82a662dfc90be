//! The letters that stand for bytes in a byte-level vocabulary.

/// The byte that a letter stands for: itself where it is printable, otherwise by its place from U+0100 on.
fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        // The bytes that are left, in ascending order: 0 to 0x20, 0x7f to 0xa0, 0xad.
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The bytes of a token; one that has other letters is text.
pub(super) fn of_token(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_byte_has_one_letter() {
        let letters = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let bytes: BTreeSet<u8> = letters.iter().filter_map(|c| byte_of(*c)).collect();
        assert_eq!((letters.len(), bytes.len()), (256, 256));
        assert_eq!(of_token("Ġa"), b" a");
        assert_eq!(of_token("ðŁĻĤ"), "🙂".as_bytes());
        assert_eq!(of_token("a b"), b"a b");
    }
}
