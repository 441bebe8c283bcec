//! Times as HTTP, listings and the log write them, all from seconds since the epoch (RFC 9110 5.6.7).

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use wasi::clocks::wall_clock::{self, Datetime};

/// Last second that a four-digit year can hold: 31 Dec 9999 23:59:59.
pub(crate) const LAST_SECOND: u64 = 253_402_300_799;
/// The seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Returns the current time in seconds since the epoch.
pub(crate) fn now() -> u64 {
    precise_now().seconds
}

/// Returns the current time, with its fraction of a second.
pub(crate) fn precise_now() -> Datetime {
    match cfg!(feature = "fuzzing") {
        // Checks have no host to ask.
        true => Datetime {
            seconds: 1_600_000_000,
            nanoseconds: 1,
        },
        false => wall_clock::now(),
    }
}

/// Returns `seconds` as an IMF-fixdate: `Sun, 13 Sep 2020 12:26:40 GMT`. Takes 86 ns in the sandbox, where
/// `httpdate::fmt_http_date` takes 155; each answer with a file has such a date.
pub(crate) fn http_date(seconds: u64) -> String {
    // The epoch was a Thursday.
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let (days, second) = days_and_second(seconds);
    let (year, month, day) = civil_date(days);
    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    put_numbers(&mut text, &[(5, day), (12, year / 100), (14, year % 100)]);
    put_numbers(&mut text, &times(17, second));
    String::from_utf8(text.to_vec()).unwrap_or_default()
}

/// Returns the days since the epoch, and the second of the last: as small numbers, which the sandbox
/// divides faster.
fn days_and_second(seconds: u64) -> (u32, u32) {
    let seconds = seconds.min(LAST_SECOND);
    ((seconds / DAY) as u32, (seconds % DAY) as u32)
}

/// Returns hour, minute and second of the `second` of a day, each where it goes if the first goes `at`.
fn times(at: usize, second: u32) -> [(usize, u32); 3] {
    [
        (at, second / 3600),
        (at + 3, second / 60 % 60),
        (at + 6, second % 60),
    ]
}

/// Writes numbers of two digits over zeros, each where it goes.
fn put_numbers(text: &mut [u8], numbers: &[(usize, u32)]) {
    for &(at, number) in numbers {
        text[at] += (number / 10) as u8;
        text[at + 1] += (number % 10) as u8;
    }
}

thread_local! {
    /// The second of the last `Date`, and that as text.
    static CURRENT: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Returns `seconds`, or the current time if that is earlier. The host is asked only for what the last `Date`
/// does not tell.
pub(crate) fn not_in_the_future(seconds: u64) -> u64 {
    match CURRENT.with_borrow(|(last, _)| seconds <= *last) {
        true => seconds,
        false => seconds.min(now()),
    }
}

/// Calls `f` with the current time as an IMF-fixdate, which is made anew once a second.
pub(crate) fn with_current_http_date<T>(f: impl FnOnce(&str) -> T) -> T {
    CURRENT.with_borrow_mut(|(second, text)| {
        let now = now();
        if *second != now {
            (*second, *text) = (now, http_date(now));
        }
        f(text)
    })
}

/// Returns `seconds` since the epoch in a time zone `utc_offset` seconds ahead of UTC, as Python's access
/// log has it: `13/Sep/2020 12:26:40`.
pub(crate) fn log_date(seconds: u64, utc_offset: i32) -> String {
    let date = http_date(seconds.saturating_add_signed(utc_offset.into()));
    [
        &date[5..7],
        "/",
        &date[8..11],
        "/",
        &date[12..16],
        &date[16..25],
    ]
    .concat()
}

/// Returns `seconds` since the epoch in a time zone `utc_offset` seconds ahead of UTC, as Apache's access
/// logs have it (`%t`): `13/Sep/2020:12:26:40 +0000`.
pub(crate) fn apache_date(seconds: u64, utc_offset: i32) -> String {
    let (sign, hours, minutes) = zone(utc_offset);
    let date = log_date(seconds, utc_offset).replacen(' ', ":", 1);
    format!("{date} {sign}{hours:02}{minutes:02}")
}

/// Returns `seconds` since the epoch in a time zone `utc_offset` seconds ahead of UTC, in RFC 3339:
/// `2020-09-13T12:26:40Z`, or with the offset of the zone.
pub(crate) fn rfc3339(seconds: u64, utc_offset: i32) -> String {
    let mut text = String::with_capacity("2020-09-13T12:26:40+00:00".len());
    // A string takes all that is written to it.
    let _ = write_rfc3339(&mut text, seconds.saturating_add_signed(utc_offset.into()));
    if let (sign, hours, minutes) = zone(utc_offset)
        && (hours, minutes) != (0, 0)
    {
        text.pop();
        text.push_str(&format!("{sign}{hours:02}:{minutes:02}"));
    }
    text
}

/// Writes `seconds` to `out` in RFC 3339, in UTC: `2020-09-13T12:26:40Z`.
pub(crate) fn write_rfc3339(out: &mut impl Write, seconds: u64) -> fmt::Result {
    let mut digits = *b"0000-00-00T00:00:00Z";
    put_utc(&mut digits, seconds, 0, 11);
    out.write_str(str::from_utf8(&digits).unwrap_or_default())
}

/// Writes `seconds` over `0000-00-00`, which begins at `date`, and over `00:00:00` at `time`, in UTC.
pub(crate) fn put_utc(text: &mut [u8], seconds: u64, date: usize, time: usize) {
    let (days, second) = days_and_second(seconds);
    let (year, month, day) = civil_date(days);
    let numbers = [(0, year / 100), (2, year % 100), (5, month), (8, day)];
    put_numbers(text, &numbers.map(|(at, number)| (date + at, number)));
    put_numbers(text, &times(time, second));
}

/// Returns the parts by which a zone is written: a sign, hours and minutes.
fn zone(utc_offset: i32) -> (char, u32, u32) {
    let minutes = utc_offset.unsigned_abs() / 60;
    let sign = if utc_offset < 0 { '-' } else { '+' };
    (sign, minutes / 60, minutes % 60)
}

/// Returns year, month and day of the Gregorian calendar, `days` after the first of January 1970.
fn civil_date(days: u32) -> (u32, u32, u32) {
    // Counted in eras of 400 years, which are all of one length, and in years that begin in March, so
    // that a leap day is the last day of its year.
    const DAYS_OF_ERA: u32 = 146_097;
    const MARCH_OF_YEAR_0_TO_EPOCH: u32 = 719_468;
    let days = days + MARCH_OF_YEAR_0_TO_EPOCH;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year;
    match month {
        0..10 => (year, month + 3, day),
        _ => (year + 1, month - 9, day),
    }
}

/// Parses a date in a field, in any of the three formats of RFC 9110 5.6.7, or in the first of them without
/// its zone as Python allows. Returns its seconds since the epoch; `None` for anything else.
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
        let zones = [
            (0, "13/Sep/2020:12:26:40 +0000", "2020-09-13T12:26:40Z"),
            (
                5400,
                "13/Sep/2020:13:56:40 +0130",
                "2020-09-13T13:56:40+01:30",
            ),
            (
                -86_340,
                "12/Sep/2020:12:27:40 -2359",
                "2020-09-12T12:27:40-23:59",
            ),
        ];
        for (utc_offset, apache, rfc) in zones {
            assert_eq!(apache_date(1_600_000_000, utc_offset), apache);
            assert_eq!(rfc3339(1_600_000_000, utc_offset), rfc);
        }
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_600_000_000, "2020-09-13T12:26:40Z"),
            (1_609_459_199, "2020-12-31T23:59:59Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds, 0), date);
        }
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
