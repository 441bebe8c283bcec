//! Local time for components, which have no time zones: the changes of the clock that are to come.

use agreed::local_time::offsets;
use jiff::{Timestamp, tz::TimeZone};

/// Changes that a component is told of: those of six years, where there are two a year. A worker that starts
/// tells of the next.
const CHANGES: usize = 12;

/// Returns the offset of local time from UTC, and the changes to come, as a component takes them.
pub(crate) fn told() -> String {
    changes_from(&TimeZone::system(), Timestamp::now())
}

fn changes_from(zone: &TimeZone, now: Timestamp) -> String {
    let changes = zone.following(now).take(CHANGES);
    offsets(
        zone.to_offset(now).seconds(),
        changes.map(|change| (change.timestamp().as_second(), change.offset().seconds())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changes_of_a_zone_are_told() {
        let now = Timestamp::from_second(1_767_225_600).expect("a time");
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
        let told = changes_from(&berlin, now);
        assert!(
            told.starts_with("3600 1774746000=7200 1792890000=3600 "),
            "{told}"
        );
        assert_eq!(told.split(' ').count(), 1 + CHANGES);
        assert_eq!(changes_from(&TimeZone::UTC, now), "0");
        let nepal = TimeZone::posix("<+0545>-5:45").expect("a zone");
        assert_eq!(changes_from(&nepal, now), "20700");
    }
}
