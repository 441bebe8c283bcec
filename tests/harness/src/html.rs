//! Reads the links of a page, and escapes text as a page does.

/// Returns the links of `page` in order: what they lead to, and the first text they show.
pub fn links(page: &str) -> Vec<(String, String)> {
    let mut links = Vec::new();
    let mut open = None;
    for piece in page.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or((piece, ""));
        if let Some(attributes) = tag.strip_prefix("a ") {
            open = Some(href(attributes));
        }
        let text = unescape(text.trim());
        if !text.is_empty()
            && let Some(href) = open.take()
        {
            links.push((href, text));
        }
    }
    links
}

fn href(attributes: &str) -> String {
    let value = attributes
        .split_once("href=\"")
        .map_or("", |(_, rest)| rest);
    unescape(value.split('"').next().unwrap_or_default())
}

fn unescape(text: &str) -> String {
    // The ampersand last, so that what it gives is not taken for an escape.
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escaped, plain)| {
        text.replace(escaped, plain)
    })
}

/// Returns `text` as a page shows it: Python's `html.escape(text, quote=False)`.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
