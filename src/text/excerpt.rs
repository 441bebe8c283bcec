//! Text that a client may make as long as it likes, where it is shown to people: both ends of it. Pure.

use std::borrow::Cow;

/// Stands for what is left out.
pub(crate) const ELLIPSIS: &str = "...";
/// The most bytes that an escape has for one of the text: `\u001b` in JSON.
const MAX_GROWTH: usize = 6;

/// Returns `text`; or both its ends, if `escape` makes more than `limit` bytes of it. What `escape` adds
/// to every text, such as quotes, does not count.
pub(crate) fn excerpt(
    text: &str,
    limit: usize,
    escape: impl Fn(&mut String, &str),
) -> Cow<'_, str> {
    // Nearly every text, and no work for it.
    if text.len() <= limit / MAX_GROWTH || fitting(text.chars(), limit, &escape) == text.len() {
        return Cow::Borrowed(text);
    }
    let room = limit.saturating_sub(ELLIPSIS.len()) / 2;
    let start = fitting(text.chars(), room, &escape);
    let end = text.len() - fitting(text.chars().rev(), room, &escape);
    Cow::Owned([&text[..start], ELLIPSIS, &text[end..]].concat())
}

/// Returns how many bytes the first of `chars` have that `escape` makes no more than `room` bytes of.
fn fitting(
    chars: impl Iterator<Item = char>,
    room: usize,
    escape: &impl Fn(&mut String, &str),
) -> usize {
    let mut escaped = String::new();
    escape(&mut escaped, "");
    let added = escaped.len();
    let (mut fitting, mut taken) = (0, 0);
    for char in chars {
        escaped.clear();
        escape(&mut escaped, char.encode_utf8(&mut [0; 4]));
        taken += escaped.len().saturating_sub(added);
        if taken > room {
            break;
        }
        fitting += char.len_utf8();
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes every control character as four, between quotes.
    fn quoted(out: &mut String, text: &str) {
        out.push('"');
        for char in text.chars() {
            match char.is_control() {
                true => out.push_str(&format!("\\x{:02x}", u32::from(char))),
                false => out.push(char),
            }
        }
        out.push('"');
    }

    #[test]
    fn both_ends_of_a_long_text_are_left() {
        for (text, limit, expected) in [
            ("", 0, ""),
            ("", 9, ""),
            ("123456789", 9, "123456789"),
            ("1234567890", 9, "123...890"),
            ("1234567890", 8, "12...90"),
            ("1234567890", 3, "..."),
            ("1234567890", 0, "..."),
            ("\0\0\u{1}", 12, "\0\0\u{1}"),
            ("\0\0\u{1}", 11, "\0...\u{1}"),
            ("\0\0\u{1}", 10, "..."),
            (
                "\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}",
                10,
                "\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}",
            ),
            ("\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}", 9, "\u{fc}...\u{fc}"),
            ("\u{1f600}\u{1f600}\u{1f600}", 11, "\u{1f600}...\u{1f600}"),
        ] {
            assert_eq!(excerpt(text, limit, quoted), expected, "{text:?} {limit}");
        }
    }

    #[test]
    fn an_excerpt_is_its_own_excerpt_and_within_the_limit() {
        let text = "a\0\u{fc}\u{85}".repeat(1000);
        for limit in 3..500 {
            let shown = excerpt(&text, limit, quoted);
            let mut escaped = String::new();
            quoted(&mut escaped, &shown);
            assert!(escaped.len() - 2 <= limit, "{limit}: {escaped}");
            assert_eq!(excerpt(&shown, limit, quoted), shown, "{limit}");
        }
    }
}
