//! The preconditions of a request: does the client already have what it asks for, or mean another version
//! of it (RFC 9110 13)? Pure: request and validators in, outcome out.

use wasi::clocks::wall_clock::Datetime;

use crate::files::filesystem::Digest;
use crate::files::open::File;
use crate::http1::date::{not_in_the_future, parse_http_date};
use crate::http1::request::Request;

/// The facts that the entity tags of files are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntityTags {
    /// All that is known of a file: its tag is another whenever its content may be. Tags are strong.
    #[default]
    Strong,
    /// The size and the time of the last modification, which a copy of the file on another machine has, too.
    /// Tags are weak.
    Portable,
}

/// The validators of a file, which tell one version of it from another (RFC 9110 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    /// An entity tag, in its quotes, behind `W/` if it is weak.
    pub(crate) etag: Option<String>,
    /// The time of the last modification, in seconds since the epoch.
    pub(crate) last_modified: Option<u64>,
    /// True if no other version of the file can have the same time of the last modification (RFC 9110 8.8.2.2).
    pub(crate) is_date_strong: bool,
}

/// The facts about a file that its validators are made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// The size in bytes.
    pub(crate) size: u64,
    /// The time when the content last changed, as [`File::modified`] has it.
    pub(crate) modified: Option<Datetime>,
    /// The time when anything about the file last changed, as [`File::changed`] has it.
    pub(crate) changed: Option<Datetime>,
    /// The host's identity of the file.
    pub(crate) identity: Option<u64>,
    /// The digest of the content, as [`File::digest`] has it.
    pub(crate) digest: Option<Digest>,
}

impl Facts {
    /// Returns the facts about `file`.
    pub(crate) fn of(file: &File) -> Self {
        Facts {
            size: file.size,
            modified: file.modified,
            changed: file.changed,
            identity: file.identity,
            digest: file.digest,
        }
    }

    /// Returns the entity tag; `None` where the host does not say when the file was modified. Sizes and times can
    /// be the same for two versions, as `cp -p` gives them to a file in place: the time of the last change of
    /// anything about the file is then another. Where the content is known, its digest is all there is to say.
    pub(crate) fn entity_tag(&self, kind: EntityTags) -> Option<String> {
        if let Some(digest) = &self.digest {
            return Some(entity_tag(digest));
        }
        let modified = nanoseconds(self.modified.or(self.changed)?);
        let Facts { size, identity, .. } = *self;
        Some(match (kind, self.changed) {
            (EntityTags::Portable, _) => ["W/", &entity_tag(&[size, modified])].concat(),
            (EntityTags::Strong, Some(changed)) => {
                let changed = nanoseconds(changed);
                entity_tag(&[size, modified, changed, identity.unwrap_or_default()])
            }
            (EntityTags::Strong, None) => {
                entity_tag(&[size, modified, identity.unwrap_or_default()])
            }
        })
    }

    /// Returns whether the second `last_modified` is over, and nothing about the file was changed after it: then
    /// whoever was told that time was told it of this version. A client must not use a time that it was told
    /// within that second (RFC 9110 13.1.5). `not_in_the_future` limits a time to now.
    fn is_date_strong(&self, last_modified: u64, not_in_the_future: impl Fn(u64) -> u64) -> bool {
        // The clock that files have their times by lags some milliseconds behind.
        let over = last_modified.saturating_add(2);
        self.changed
            .is_some_and(|changed| changed.seconds <= last_modified)
            && not_in_the_future(over) == over
    }

    /// Returns the time of the last modification, in seconds since the epoch and not in the future (RFC 9110
    /// 8.8.2.1). A time that was set to later than now, or to before 1970, is not when that happened: the last
    /// change of anything about the file is nearer to it, and stays the same from one request to the next.
    /// `not_in_the_future` limits a time to now.
    fn last_modified(&self, not_in_the_future: impl Fn(u64) -> u64) -> Option<u64> {
        match self.modified {
            Some(Datetime { seconds, .. }) if not_in_the_future(seconds) == seconds => {
                Some(seconds)
            }
            modified => {
                let changed = self.changed.or(modified)?;
                Some(not_in_the_future(changed.seconds))
            }
        }
    }
}

/// The result of evaluating the preconditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// The preconditions hold, or there are none.
    Holds,
    /// The client has the representation already.
    NotModified,
    /// The client means another version.
    Failed,
}

impl Validators {
    /// Returns the validators of a file by the `facts` about it, with a tag of such a `kind`.
    pub(crate) fn new(facts: &Facts, kind: EntityTags) -> Self {
        let last_modified = facts.last_modified(not_in_the_future);
        Validators {
            etag: facts.entity_tag(kind),
            last_modified,
            is_date_strong: last_modified
                .is_some_and(|seconds| facts.is_date_strong(seconds, not_in_the_future)),
        }
    }

    /// Returns these validators for the file in `coding`, which is another representation (RFC 9110
    /// 8.8.3.3).
    pub(crate) fn in_coding(mut self, coding: &str) -> Self {
        if let Some(tag) = &mut self.etag {
            tag.pop();
            tag.extend(["-", coding, "\""]);
        }
        self
    }

    /// Returns whether `If-Range` names this version, or is not there (RFC 9110 13.1.5).
    pub(crate) fn match_if_range(&self, request: &Request) -> bool {
        let Some(value) = request.headers().get("If-Range") else {
            return true;
        };
        let value = value.trim();
        if value.ends_with('"') {
            return !is_weak(value) && self.etag.as_deref() == Some(value);
        }
        let date = parse_http_date(value);
        date.is_some() && date == self.last_modified && self.is_date_strong
    }
}

/// Returns a time in nanoseconds since the epoch, of which there are more than a number holds.
fn nanoseconds(time: Datetime) -> u64 {
    let seconds = time.seconds.wrapping_mul(1_000_000_000);
    seconds.wrapping_add(time.nanoseconds.into())
}

/// Returns an entity tag: `numbers` in hexadecimal, with `-` between, in quotes. Every response has one,
/// and `format!` would take longer than all else that is decided in this module.
fn entity_tag(numbers: &[u64]) -> String {
    let mut tag = Vec::with_capacity(2 + 17 * numbers.len());
    tag.push(b'"');
    for (at, &number) in numbers.iter().enumerate() {
        if at > 0 {
            tag.push(b'-');
        }
        let digits = std::array::from_fn::<_, 16, _>(|digit| {
            b"0123456789abcdef"[(number >> (60 - 4 * digit) & 0xf) as usize]
        });
        let leading = number.leading_zeros() as usize / 4;
        tag.extend_from_slice(&digits[leading.min(15)..]);
    }
    tag.push(b'"');
    String::from_utf8(tag).unwrap_or_default()
}

/// Evaluates the preconditions of `request` in the order of RFC 9110 13.2.2. A field that should be a date
/// and is none is ignored.
pub(crate) fn evaluate(request: &Request, validators: &Validators) -> Precondition {
    let headers = request.headers();
    let date = |name| headers.get(name).and_then(|value| parse_http_date(&value));
    if headers.get("If-Match").is_some() {
        if !has_tag(request, "If-Match", validators, Comparison::Strong) {
            return Precondition::Failed;
        }
    } else if let (Some(since), Some(modified)) =
        (date("If-Unmodified-Since"), validators.last_modified)
        && modified > since
    {
        return Precondition::Failed;
    }
    if headers.get("If-None-Match").is_some() {
        if has_tag(request, "If-None-Match", validators, Comparison::Weak) {
            return Precondition::NotModified;
        }
    } else if matches!(request.command(), "GET" | "HEAD")
        && let (Some(since), Some(modified)) = (date("If-Modified-Since"), validators.last_modified)
        && modified <= since
    {
        return Precondition::NotModified;
    }
    Precondition::Holds
}

/// Returns whether the preconditions of a request that would change a file hold. `None` stands for the
/// validators of a file that does not exist: it has no tag, and was never modified.
pub(crate) fn allow_change(request: &Request, validators: Option<&Validators>) -> bool {
    match validators {
        Some(validators) => evaluate(request, validators) == Precondition::Holds,
        None => request.headers().get("If-Match").is_none(),
    }
}

/// The way that two entity tags are compared (RFC 9110 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Returns whether the lists of entity tags in the field `name` hold the tag of `ours`, or are `*`.
fn has_tag(request: &Request, name: &str, ours: &Validators, comparison: Comparison) -> bool {
    request.headers().get_all(name).any(|list| {
        list.trim() == "*"
            || ours.etag.as_deref().is_some_and(|ours| {
                entity_tags(&list).any(|tag| match comparison {
                    Comparison::Strong => !is_weak(tag) && ours == tag,
                    Comparison::Weak => opaque(ours) == opaque(tag),
                })
            })
    })
}

fn is_weak(tag: &str) -> bool {
    tag.starts_with("W/")
}

/// Returns `tag` in its quotes, be it strong or weak.
pub(crate) fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Returns the entity tags of a list. A tag may hold a comma; everything behind something that is no tag is
/// lost.
fn entity_tags(mut list: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        list = list.trim_start_matches([' ', '\t', ',']);
        let quote = match list.strip_prefix("W/") {
            Some(opaque) if opaque.starts_with('"') => 2,
            _ if list.starts_with('"') => 0,
            _ => return None,
        };
        let end = quote + 2 + list[quote + 1..].find('"')?;
        let (tag, rest) = list.split_at(end);
        list = rest;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse::{Parsed, parse};

    fn request(fields: &[&str]) -> Request {
        let head = format!("GET / HTTP/1.0\r\n{}\r\n\r\n", fields.join("\r\n"));
        match parse(head.replace("\r\n\r\n\r\n", "\r\n\r\n").as_bytes()) {
            Parsed::Complete(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    fn validators() -> Validators {
        Validators {
            etag: Some("\"a,b\"".into()),
            last_modified: Some(1_600_000_000),
            is_date_strong: true,
        }
    }

    const BEFORE: &str = "Sun, 13 Sep 2020 12:26:39 GMT";
    const EXACT: &str = "Sun, 13 Sep 2020 12:26:40 GMT";

    #[test]
    fn preconditions_are_evaluated_in_the_order_of_the_rfc() {
        use Precondition::{Failed, Holds, NotModified};
        let since = |name: &str, date: &str| format!("{name}: {date}");
        let cases: &[(&[&str], Precondition)] = &[
            (&[], Holds),
            (&["If-None-Match: \"a,b\""], NotModified),
            (&["If-None-Match: W/\"a,b\""], NotModified),
            (&["If-None-Match: \"x\", W/\"y\" ,\"a,b\""], NotModified),
            (
                &["If-None-Match: \"x\"", "If-None-Match: \"a,b\""],
                NotModified,
            ),
            (&["If-None-Match: *"], NotModified),
            (&["If-None-Match: \"a\""], Holds),
            (&["If-None-Match: a,b"], Holds),
            (&["If-None-Match: \"a,b"], Holds),
            (
                &["If-None-Match: \"x\"", &since("If-Modified-Since", EXACT)],
                Holds,
            ),
            (&[&since("If-Modified-Since", EXACT)], NotModified),
            (&[&since("If-Modified-Since", BEFORE)], Holds),
            (&["If-Modified-Since: yesterday"], Holds),
            (&["If-Match: \"a,b\""], Holds),
            (&["If-Match: *"], Holds),
            (&["If-Match: W/\"a,b\""], Failed),
            (&["If-Match: \"x\""], Failed),
            (&["If-Match:"], Failed),
            (
                &["If-Match: \"a,b\"", "If-None-Match: \"a,b\""],
                NotModified,
            ),
            (
                &["If-Match: \"a,b\"", &since("If-Unmodified-Since", BEFORE)],
                Holds,
            ),
            (&[&since("If-Unmodified-Since", EXACT)], Holds),
            (&[&since("If-Unmodified-Since", BEFORE)], Failed),
            (&["If-Unmodified-Since: 0"], Holds),
        ];
        for (fields, outcome) in cases {
            assert_eq!(
                evaluate(&request(fields), &validators()),
                *outcome,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_change_is_allowed_of_the_version_that_is_meant() {
        for (field, of_ours, of_none) in [
            ("X: y", true, true),
            ("If-Match: \"a,b\"", true, false),
            ("If-Match: *", true, false),
            ("If-Match: \"x\"", false, false),
            ("If-None-Match: *", false, true),
            ("If-None-Match: \"x\"", true, true),
            ("If-None-Match: \"a,b\"", false, true),
            (&format!("If-Unmodified-Since: {BEFORE}"), false, true),
            (&format!("If-Unmodified-Since: {EXACT}"), true, true),
            (&format!("If-Modified-Since: {EXACT}"), true, true),
        ] {
            let head = format!("PUT / HTTP/1.0\r\n{field}\r\n\r\n");
            let Parsed::Complete(request, _) = parse(head.as_bytes()) else {
                panic!("{head}");
            };
            let ours = validators();
            assert_eq!(allow_change(&request, Some(&ours)), of_ours, "{field}");
            assert_eq!(allow_change(&request, None), of_none, "{field}");
        }
    }

    #[test]
    fn a_file_was_last_modified_when_it_says_unless_that_cannot_be() {
        let at = |seconds| Datetime {
            seconds,
            nanoseconds: 999_999_999,
        };
        const NOW: u64 = 1000;
        for (modified, changed, last_modified) in [
            (Some(10), None, Some(10)),
            (Some(10), Some(20), Some(10)),
            (Some(NOW), Some(20), Some(NOW)),
            // In the future, beyond the year 9999, before 1970.
            (Some(NOW + 1), Some(20), Some(20)),
            (Some(NOW + 1), None, Some(NOW)),
            (Some(u64::MAX), Some(20), Some(20)),
            (Some(u64::MAX), Some(NOW + 1), Some(NOW)),
            (None, Some(20), Some(20)),
            (None, None, None),
        ] {
            let facts = Facts {
                modified: modified.map(at),
                changed: changed.map(at),
                ..Facts::default()
            };
            let found = facts.last_modified(|seconds| seconds.min(NOW));
            assert_eq!(found, last_modified, "{modified:?} {changed:?}");
        }
    }

    #[test]
    fn an_entity_tag_shows_its_numbers() {
        assert_eq!(
            entity_tag(&[0, 0x1a, u64::MAX]),
            "\"0-1a-ffffffffffffffff\""
        );
    }

    #[test]
    fn if_range_must_name_this_very_version() {
        let cases = [
            ("If-Range: \"a,b\"".to_owned(), true),
            ("If-Range: W/\"a,b\"".to_owned(), false),
            ("If-Range: \"x\"".to_owned(), false),
            (format!("If-Range: {EXACT}"), true),
            (format!("If-Range: {BEFORE}"), false),
            ("If-Range: soon".to_owned(), false),
            ("X: y".to_owned(), true),
        ];
        for (field, matches) in cases {
            assert_eq!(
                validators().match_if_range(&request(&[&field])),
                matches,
                "{field}"
            );
        }
        let date = format!("If-Range: {EXACT}");
        let weak = Validators {
            etag: Some("W/\"a,b\"".into()),
            is_date_strong: false,
            ..validators()
        };
        for field in [date.as_str(), "If-Range: W/\"a,b\"", "If-Range: \"a,b\""] {
            assert!(!weak.match_if_range(&request(&[field])), "{field}");
        }
    }

    #[test]
    fn a_weak_tag_is_for_weak_comparison() {
        use Precondition::{Failed, Holds, NotModified};
        let weak = Validators {
            etag: Some("W/\"a,b\"".into()),
            ..validators()
        };
        for (field, outcome) in [
            ("If-None-Match: W/\"a,b\"", NotModified),
            ("If-None-Match: \"a,b\"", NotModified),
            ("If-None-Match: \"x\"", Holds),
            ("If-Match: W/\"a,b\"", Failed),
            ("If-Match: \"a,b\"", Failed),
            ("If-Match: *", Holds),
        ] {
            assert_eq!(evaluate(&request(&[field]), &weak), outcome, "{field}");
        }
    }

    #[test]
    fn a_tag_tells_all_that_is_known_or_what_copies_have_in_common() {
        let at = |seconds| {
            Some(Datetime {
                seconds,
                nanoseconds: 1,
            })
        };
        let facts = |modified, changed, identity| Facts {
            size: 16,
            modified,
            changed,
            identity,
            digest: None,
        };
        let known = |modified| Facts {
            digest: Some([0xabc, 1]),
            ..facts(modified, None, None)
        };
        use EntityTags::{Portable, Strong};
        for (kind, facts, tag) in [
            (
                Strong,
                facts(at(1), at(2), Some(10)),
                Some("\"10-3b9aca01-77359401-a\""),
            ),
            (
                Strong,
                facts(at(1), at(3), Some(10)),
                Some("\"10-3b9aca01-b2d05e01-a\""),
            ),
            (
                Strong,
                facts(at(1), None, Some(10)),
                Some("\"10-3b9aca01-a\""),
            ),
            (
                Strong,
                facts(None, at(2), None),
                Some("\"10-77359401-77359401-0\""),
            ),
            (Strong, facts(None, None, Some(10)), None),
            (
                Portable,
                facts(at(1), at(2), Some(10)),
                Some("W/\"10-3b9aca01\""),
            ),
            (
                Portable,
                facts(at(1), at(3), Some(11)),
                Some("W/\"10-3b9aca01\""),
            ),
            (Strong, known(at(1)), Some("\"abc-1\"")),
            (Portable, known(None), Some("\"abc-1\"")),
        ] {
            assert_eq!(facts.entity_tag(kind).as_deref(), tag, "{kind:?} {facts:?}");
        }
    }

    #[test]
    fn a_date_is_strong_if_nothing_was_changed_since_and_its_second_is_over() {
        let at = |seconds| Datetime {
            seconds,
            nanoseconds: 999_999_999,
        };
        const NOW: u64 = 1000;
        for (last_modified, changed, is_strong) in [
            (10, Some(10), true),
            (10, Some(11), false),
            (10, None, false),
            (NOW - 2, Some(NOW - 2), true),
            (NOW - 1, Some(NOW - 1), false),
            (NOW, Some(NOW), false),
        ] {
            let facts = Facts {
                changed: changed.map(at),
                ..Facts::default()
            };
            let found = facts.is_date_strong(last_modified, |seconds| seconds.min(NOW));
            assert_eq!(found, is_strong, "{last_modified} {changed:?}");
        }
    }
}
