//! Tells a line that is a JSON object (RFC 8259) of texts, numbers and names from one that only looks like it.
//! Lines of the log are such objects, and anything may stand in what a handler writes.

/// Returns whether `line` is an object whose members are neither objects nor arrays, written without spaces.
pub(crate) fn is_flat_object(line: &[u8]) -> bool {
    let inside = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_prefix('{')?.strip_suffix('}'));
    let Some(mut rest) = inside else {
        return false;
    };
    loop {
        let after = after_string(rest)
            .and_then(|rest| rest.strip_prefix(':'))
            .and_then(after_value);
        match after {
            Some("") => return true,
            Some(after) => match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => return false,
            },
            None => return false,
        }
    }
}

fn after_value(text: &str) -> Option<&str> {
    if text.starts_with('"') {
        return after_string(text);
    }
    let end = text.find(',').unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    let is_value = matches!(value, "null" | "true" | "false") || is_whole_number(value);
    is_value.then_some(rest)
}

fn is_whole_number(text: &str) -> bool {
    let is_zero_led = text.len() > 1 && text.starts_with('0');
    !text.is_empty() && !is_zero_led && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn after_string(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('"')?;
    loop {
        let is_special = |char: char| matches!(char, '"' | '\\' | '\0'..='\x1f');
        let (_, special) = rest.split_at(rest.find(is_special)?);
        rest = match special.as_bytes() {
            [b'"', ..] => return special.get(1..),
            [b'\\', b'u', digits @ ..] => {
                let digits = digits.get(..4)?;
                let are_digits = digits.iter().all(u8::is_ascii_hexdigit);
                special.get(6..).filter(|_| are_digits)?
            }
            [
                b'\\',
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                ..,
            ] => special.get(2..)?,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_told_from_what_looks_like_one() {
        for (line, is_object) in [
            (r#"{"time":"now","size":6,"user":null}"#, true),
            (r#"{"a":"\"\\\u001b\n é 日"}"#, true),
            (r#"{"a":0,"b":true,"c":false,"":""}"#, true),
            (r#"{"a":"b"}{"a":"b"}"#, false),
            (r#"{"a":"b"},"#, false),
            (r#"{"a":"b",}"#, false),
            (r#"{"a":}"#, false),
            (r#"{"a"}"#, false),
            (r#"{a:1}"#, false),
            (r#"{"a":01}"#, false),
            (r#"{"a":-}"#, false),
            (r#"{"a":"b}"#, false),
            (r#"{"a":"\"}"#, false),
            (r#"{"a":"\x"}"#, false),
            (r#"{"a":"\u00g0"}"#, false),
            (r#"{"a":"\u00"}"#, false),
            (r#"{"a":"\u00é"}"#, false),
            ("{\"a\":\"\x1b\"}", false),
            (r#"{"time":{"time":"#, false),
            ("{}", false),
            ("{", false),
            ("", false),
        ] {
            assert_eq!(is_flat_object(line.as_bytes()), is_object, "{line}");
        }
        assert!(!is_flat_object(b"{\"a\":\"\xff\"}"));
    }
}
