//! Numbers as text: what `to_string` gives, without its memory and its detours.

use std::fmt::{self, Write};

/// Writes `number` to `out`.
pub(crate) fn write(out: &mut impl Write, number: u64) -> fmt::Result {
    if number >= 10 {
        write(out, number / 10)?;
    }
    out.write_char(char::from(b'0' + (number % 10) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_no_leading_zeros() {
        for number in [0, 9, 10, 1_000_907, u64::MAX] {
            let mut text = String::from("-");
            write(&mut text, number).unwrap();
            assert_eq!(text, format!("-{number}"));
        }
    }
}
