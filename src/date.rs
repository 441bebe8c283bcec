//! Times as HTTP and the log write them, all from seconds since the epoch (RFC 9110 5.6.7).

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Last second that a four-digit year can hold: 31 Dec 9999 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

/// The current time in seconds since the epoch.
pub(crate) fn now() -> u64 {
    wasi::clocks::wall_clock::now().seconds
}

/// `seconds` as an IMF-fixdate: `Sun, 13 Sep 2020 12:26:40 GMT`.
pub(crate) fn http_date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND)))
}

/// Calls `f` with the current time as an IMF-fixdate, which is made anew once a second.
pub(crate) fn with_current_http_date<T>(f: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static CURRENT: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    CURRENT.with_borrow_mut(|(second, text)| {
        let now = now();
        if *second != now {
            (*second, *text) = (now, http_date(now));
        }
        f(text)
    })
}

/// `seconds` in a time zone `utc_offset` seconds ahead of UTC, as Python's access log has it:
/// `13/Sep/2020 12:26:40`.
pub(crate) fn log_date(seconds: u64, utc_offset: i32) -> String {
    let date = http_date(seconds.saturating_add_signed(utc_offset.into()));
    format!(
        "{}/{}/{} {}",
        &date[5..7],
        &date[8..11],
        &date[12..16],
        &date[17..25]
    )
}

/// The seconds since the epoch that a date in a field names, in any of the three formats of
/// RFC 9110 5.6.7, or in the first of them without its zone as Python allows; `None` for anything
/// else.
pub(crate) fn parse_http_date(value: &str) -> Option<u64> {
    let value = value.trim();
    let time = httpdate::parse_http_date(value)
        .or_else(|_| httpdate::parse_http_date(&format!("{value} GMT")))
        .ok()?;
    seconds_since_epoch(time)
}

fn seconds_since_epoch(time: SystemTime) -> Option<u64> {
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read() {
        assert_eq!(http_date(1_600_000_000), "Sun, 13 Sep 2020 12:26:40 GMT");
        assert_eq!(http_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(log_date(1_600_000_000, 0), "13/Sep/2020 12:26:40");
        assert_eq!(log_date(1_600_000_000, -86_400), "12/Sep/2020 12:26:40");
        assert_eq!(log_date(0, -3_600), "01/Jan/1970 00:00:00");
        let cases = [
            ("Sun, 13 Sep 2020 12:26:40 GMT", Some(1_600_000_000)),
            ("Sunday, 13-Sep-20 12:26:40 GMT", Some(1_600_000_000)),
            ("Sun Sep 13 12:26:40 2020", Some(1_600_000_000)),
            ("Sun, 13 Sep 2020 12:26:40", Some(1_600_000_000)),
            ("Sun, 13 Sep 2020 12:26:40 +0200", None),
            ("Sun, 99 Sep 2020 12:26:40 GMT", None),
            ("yesterday", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(parse_http_date(value), seconds, "{value:?}");
        }
    }
}
