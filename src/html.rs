//! Text as HTML shows it.

use std::borrow::Cow;

/// `text` with `&`, `<` and `>` escaped: Python's `html.escape(text, quote=False)`, for text between
/// tags, not for attributes.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'&' | b'<' | b'>')) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;"),
    )
}
