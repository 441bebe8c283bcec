//! Names of files as text. To Unix a name is bytes, and to WASI a string: each byte that is not UTF-8 crosses as
//! one of 128 private-use characters, and so does each byte of such a character. Every name has one text, and
//! no two names have the same.

use std::borrow::Cow;

/// The character that stands for the byte 0x80. It and the 127 behind it are in the last plane of Unicode, where
/// nobody's names are.
const FIRST: u32 = 0x10_F780;
/// The byte that these characters begin with in UTF-8, and hardly any other.
const LEAD: u8 = 0xF4;

/// Returns the text of the name or path `bytes`.
pub fn from_bytes(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => Cow::Borrowed(text),
        _ => Cow::Owned(coded(bytes)),
    }
}

fn coded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match byte_of(char) {
                None => text.push(char),
                Some(_) => text.extend(char.encode_utf8(&mut [0; 4]).bytes().map(char_of)),
            }
        }
        text.extend(chunk.invalid().iter().copied().map(char_of));
    }
    text
}

/// Returns the bytes of the name or path `text`; `None` for a text that [`from_bytes`] gives to no name.
pub fn to_bytes(text: &str) -> Option<Cow<'_, [u8]>> {
    if is_plain(text) {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut bytes = Vec::with_capacity(text.len());
    for char in text.chars() {
        match byte_of(char) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    (coded(&bytes) == text).then_some(Cow::Owned(bytes))
}

/// Returns the text of a name as people see it: what is not UTF-8 is shown as U+FFFD.
pub fn shown(text: &str) -> Cow<'_, str> {
    match to_bytes(text) {
        Some(Cow::Owned(bytes)) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        Some(Cow::Borrowed(_)) | None => Cow::Borrowed(text),
    }
}

/// Returns whether a character of `text` stands for a byte.
pub fn is_coded(text: &str) -> bool {
    !is_plain(text) && text.chars().any(|char| byte_of(char).is_some())
}

/// Returns the byte that `char` stands for, if it stands for one.
pub fn byte_of(char: char) -> Option<u8> {
    let at = u32::from(char).checked_sub(FIRST)?;
    u8::try_from(at).ok()?.checked_add(0x80)
}

/// Returns the character that stands for `byte`, which is no ASCII.
fn char_of(byte: u8) -> char {
    let at = u32::from(byte.saturating_sub(0x80));
    char::from_u32(FIRST + at).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Returns whether `text` is that of a name in any case: no character of it stands for a byte.
fn is_plain(text: &str) -> bool {
    !text.as_bytes().contains(&LEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_text_of_its_own() {
        for (bytes, text) in [
            (&b"a.txt"[..], "a.txt"),
            ("\u{fc}/\u{65e5}".as_bytes(), "\u{fc}/\u{65e5}"),
            (b"\x80", "\u{10f780}"),
            (b"a\xff/\xfe.txt", "a\u{10f7ff}/\u{10f7fe}.txt"),
            // A character that is cut off, a surrogate, a form that is too long.
            (b"\xe6\x97", "\u{10f7e6}\u{10f797}"),
            (b"\xed\xb2\x80", "\u{10f7ed}\u{10f7b2}\u{10f780}"),
            (b"\xc0\xaf", "\u{10f7c0}\u{10f7af}"),
            // A character that stands for a byte, and its neighbours.
            (
                "\u{10f780}".as_bytes(),
                "\u{10f7f4}\u{10f78f}\u{10f79e}\u{10f780}",
            ),
            ("\u{10f77f}\u{10f800}".as_bytes(), "\u{10f77f}\u{10f800}"),
        ] {
            assert_eq!(from_bytes(bytes), text, "{bytes:?}");
            assert_eq!(to_bytes(text).as_deref(), Some(bytes), "{text:?}");
        }
        for byte in 0x80..=0xff {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
    }

    #[test]
    fn no_name_has_two_texts() {
        for text in [
            "\u{10f7c3}\u{10f7bc}",
            "a/\u{10f7e2}\u{10f782}\u{10f7ac}",
            "\u{10f7f4}\u{10f78f}\u{10f79d}\u{10f780}",
        ] {
            assert_eq!(to_bytes(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_name_is_shown_without_what_stands_for_bytes() {
        for (text, seen) in [
            ("a.txt", "a.txt"),
            ("a\u{10f7ff}.txt", "a\u{fffd}.txt"),
            ("\u{10f7f4}\u{10f78f}\u{10f79e}\u{10f780}", "\u{10f780}"),
        ] {
            assert_eq!(shown(text), seen, "{text:?}");
        }
        assert!(is_coded("a\u{10f7ff}") && !is_coded("\u{10f800}\u{fc}"));
    }
}
