//! Chooses the representation that a client would rather have, by its `Accept` (RFC 9110 12.5.1). Pure.

use std::iter;

use crate::http1::request::{Headers, latin1};

/// The weight of a media type, in thousandths; then how narrow the range is that gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    quality: u16,
    range: Range,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Range {
    /// No range that the media type is in.
    #[default]
    None,
    /// `*/*`
    Any,
    /// `text/*`
    Type,
    /// `text/html`
    Subtype,
}

/// Returns whether a client with these `headers` would rather have `other` (`type/subtype`) than `default`:
/// of equal quality, only if it asks for `other` more precisely. A client that says nothing, or accepts
/// neither, gets `default`.
pub(crate) fn prefers(headers: Headers, other: &str, default: &str) -> bool {
    let [other, default] = [other, default].map(|media_type| preference(headers, media_type));
    other.quality > 0 && other > default
}

/// Returns the preference for `media_type` by the narrowest range that it is in.
fn preference(headers: Headers, media_type: &str) -> Preference {
    headers
        .values("Accept")
        .flat_map(|value| value.split(|&byte| byte == b','))
        .filter_map(|member| parse(&latin1(member), media_type))
        .max_by_key(|preference| (preference.range, preference.quality))
        .unwrap_or_default()
}

/// Parses one member of an `Accept` into its preference for `media_type`; `None` if the member says nothing
/// of it, or is malformed.
fn parse(member: &str, media_type: &str) -> Option<Preference> {
    let mut parts = member.split(';').map(str::trim);
    let range = match parts.next()? {
        "*/*" => Range::Any,
        range if range.eq_ignore_ascii_case(media_type) => Range::Subtype,
        range => {
            let all_of_type = range.strip_suffix("/*")?;
            let type_ = media_type.split('/').next()?;
            all_of_type
                .eq_ignore_ascii_case(type_)
                .then_some(Range::Type)?
        }
    };
    let weight = parts.find_map(|part| qvalue(part.as_bytes()));
    let quality = weight.map_or(Some(1000), thousandths)?;
    Some(Preference { quality, range })
}

/// Returns the qvalue in `parameter`, which is `q=` and that; `None` for another parameter.
pub(crate) fn qvalue(parameter: &[u8]) -> Option<&[u8]> {
    match parameter.trim_ascii() {
        [b'q' | b'Q', b'=', value @ ..] => Some(value),
        _ => None,
    }
}

/// Parses a qvalue (RFC 9110 12.4.2), from 0 to 1 with up to three decimals, into thousandths; `None` if it is malformed.
pub(crate) fn thousandths(qvalue: &[u8]) -> Option<u16> {
    let (whole, decimals) = match qvalue {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = iter::once(whole).chain(decimals).chain(b"000").take(4);
    let thousandths = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request::{Field, Request};

    fn request(accepts: &[&str]) -> Request {
        let mut request = Request::default();
        for accept in accepts {
            let start = request.bytes.len();
            request.bytes.extend_from_slice(b"accept");
            let name = start..request.bytes.len();
            request.bytes.extend_from_slice(accept.as_bytes());
            let value = name.end..request.bytes.len();
            request.fields.push(Field { name, value });
        }
        request
    }

    #[test]
    fn json_is_for_those_who_prefer_it_to_html() {
        let cases: &[(&[&str], bool)] = &[
            (&[], false),
            (&[""], false),
            (&["*/*"], false),
            (&["text/html"], false),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], false),
            (&["application/json"], true),
            (&["Application/JSON;charset=utf-8"], true),
            (&["application/json, text/plain, */*"], true),
            (&["*/*", "application/json"], true),
            (&["application/*"], true),
            (&["application/*, */*"], true),
            (&["text/html, application/json"], false),
            (&["text/html;q=0.9, application/json"], true),
            (&["text/html;q=0.9, application/json;q=0.899"], false),
            (&["text/html;q=0.1, application/json;Q=0.11"], true),
            (&["application/json;q=0.5, */*"], false),
            (&["application/json;q=0"], false),
            (&["application/*, application/json;q=0"], false),
            (&["application/json;q=0.000, text/html;q=0"], false),
            (&["text/html;q=0, */*"], true),
            (&["image/png"], false),
            (&["application/jsonp, application/problem+json"], false),
            (&["application/json;q=2, text/html;q=0.1"], false),
            (&["application/json;q=0.1234"], false),
            (&["application/json;q=-1", "application/json;q=x"], false),
            (&["application/json;q="], false),
            (&[",;q=1,/*,;,*"], false),
        ];
        for &(accepts, is_json) in cases {
            let request = request(accepts);
            let prefers = prefers(request.headers(), "application/json", "text/html");
            assert_eq!(prefers, is_json, "{accepts:?}");
        }
    }

    #[test]
    fn a_qvalue_has_three_decimals_at_most_and_is_not_above_one() {
        for (text, value) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("0.", Some(0)),
            ("1.", Some(1000)),
            ("0.5", Some(500)),
            ("0.05", Some(50)),
            ("0.123", Some(123)),
            ("1.000", Some(1000)),
            ("1.001", None),
            ("0.1234", None),
            ("2", None),
            ("", None),
            (".5", None),
            ("00", None),
            ("0.-", None),
            ("0.1 ", None),
            ("-1", None),
        ] {
            assert_eq!(thousandths(text.as_bytes()), value, "{text}");
        }
    }
}
