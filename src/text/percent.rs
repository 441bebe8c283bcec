//! Percent-encoded bytes (RFC 3986 2.1), where more is asked than `percent-encoding` tells: it takes a `%` that
//! begins no triplet for itself. Pure.

/// Returns whether each `%` of `text` has two hexadecimal digits behind it.
pub(crate) fn is_well_formed(text: &[u8]) -> bool {
    let mut after_signs = text.split(|&byte| byte == b'%').skip(1);
    after_signs.all(|rest| {
        let digits = rest.first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_has_two_digits() {
        for text in ["", "a", "%C3%bc", "a%20b", "%25%25"] {
            assert!(is_well_formed(text.as_bytes()), "{text}");
        }
        for text in ["%", "%4", "a%", "%zz", "%4g", "%%20", "%C3%", "%+1"] {
            assert!(!is_well_formed(text.as_bytes()), "{text}");
        }
    }
}
