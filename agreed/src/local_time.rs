//! Local time, as a component is told of it: WASI has no time zones to ask for. The offset from UTC in seconds, and then
//! each change that is to come, as its moment in seconds since the epoch and the offset from then on:
//! `3600 1774746000=7200 1792890000=3600`.

use std::fmt::Write;

/// Returns the text for an offset of `now` and the `changes` that are to come, in order.
pub fn offsets(now: i32, changes: impl Iterator<Item = (i64, i32)>) -> String {
    let mut text = now.to_string();
    for (moment, offset) in changes {
        let _ = write!(text, " {moment}={offset}");
    }
    text
}

/// Returns the offset that `offsets` tell for `seconds` since the epoch; 0 where they make no sense.
pub fn offset_at(offsets: &str, seconds: u64) -> i32 {
    let mut words = offsets.split(' ');
    let now = words.next().and_then(|now| now.parse().ok()).unwrap_or(0);
    let changes = words.map_while(|word| {
        let (moment, offset) = word.split_once('=')?;
        Some((moment.parse::<u64>().ok()?, offset.parse::<i32>().ok()?))
    });
    let past = changes.take_while(|(moment, _)| *moment <= seconds);
    past.last().map_or(now, |(_, offset)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_holds_until_the_next_change() {
        let berlin = offsets(
            3600,
            [(1_774_746_000, 7200), (1_792_890_000, 3600)].into_iter(),
        );
        assert_eq!(berlin, "3600 1774746000=7200 1792890000=3600");
        for (text, seconds, offset) in [
            (&*berlin, 0, 3600),
            (&berlin, 1_774_745_999, 3600),
            (&berlin, 1_774_746_000, 7200),
            (&berlin, 1_792_889_999, 7200),
            (&berlin, 1_792_890_000, 3600),
            (&berlin, u64::MAX, 3600),
            ("-12600", 1_600_000_000, -12600),
            ("", 5, 0),
            ("one", 5, 0),
            ("3600 soon=7200", 5, 3600),
            ("3600 4=", 5, 3600),
        ] {
            assert_eq!(offset_at(text, seconds), offset, "{text} {seconds}");
        }
    }
}
