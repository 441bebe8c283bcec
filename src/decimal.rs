//! Numbers as text: what `to_string` gives, without its memory and its detours.

/// Appends `number`.
pub(crate) fn push(text: &mut String, number: u64) {
    if number >= 10 {
        push(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_no_leading_zeros() {
        for number in [0, 9, 10, 1_000_907, u64::MAX] {
            let mut text = String::from("-");
            push(&mut text, number);
            assert_eq!(text, format!("-{number}"));
        }
    }
}
