//! Properties that hold for any input, each against a model that is too simple to be wrong or too slow to be used. The
//! inputs are the same in every run.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use agreed::file_names;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use crate::files::coding;
use crate::files::path::{LocalPath, quote};
use crate::files::ranges::{self, ByteRange, Selection};
use crate::http1::chunked::Decoder;
use crate::http1::date::{self, LAST_SECOND};
use crate::http1::parse::{Parsed, parse};
use crate::http1::request::Request;
use crate::http1::wfile::{Content, Wfile};
use crate::text::percent;

/// Returns the settings of these tests: each takes a fraction of a second.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 500,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

/// Returns a request with the field line `field`.
fn request(field: &str) -> Request {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    match parse(head.as_bytes()) {
        Parsed::Complete(request, _) => request,
        other => panic!("{field:?}: {other:?}"),
    }
}

/// Paths of requests, out of pieces that mean something in one.
fn targets() -> impl Strategy<Value = String> {
    const PIECES: [&str; 24] = [
        "/", "/", "//", "/.", "/..", "/../", ".", "..", "%2e", "%2E%2e", "%2f", "%5c", "a",
        "b.txt", "%20", "%", "%zz", "%25", "%00", "%C3%BC", "%ff", "\\", "?", "#",
    ];
    vec(select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat())
}

/// Returns the bytes that `text` stands for, each `%` with two digits being one.
fn unquote(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some(&first) = rest.first() {
        let digits = rest
            .get(1..3)
            .and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits
            .filter(|digits| first == b'%' && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = &rest[if byte.is_some() { 3 } else { 1 }..];
    }
    bytes
}

/// Returns what `posixpath.normpath` makes of the names in a path, as CPython 3.13 has it.
fn normpath(path: &[u8]) -> Vec<&[u8]> {
    let is_absolute = path.starts_with(b"/");
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        if name.is_empty() || name == b"." {
            continue;
        }
        let is_above = names.last().is_none_or(|last| *last == b"..");
        if name != b".." || (is_above && !(is_absolute && names.is_empty())) {
            names.push(name);
        } else {
            names.pop();
        }
    }
    names
}

/// Returns the path that `SimpleHTTPRequestHandler.translate_path` of CPython 3.13 makes of `target`, but that a path
/// with `.` or `..` at its end is that of a directory.
fn translate_path(target: &str) -> Vec<u8> {
    let path = target.split('#').next().unwrap_or_default();
    let path = unquote(path.split('?').next().unwrap_or_default());
    let last = path.rsplit(|&byte| byte == b'/').next();
    let is_directory = matches!(last, Some(b"" | b"." | b".."));
    let mut translated = b".".to_vec();
    for name in normpath(&path) {
        if name != b".." {
            translated.push(b'/');
            translated.extend(name);
        }
    }
    if is_directory {
        translated.push(b'/');
    }
    translated
}

/// One of the ranges in a field: its first and last position, or its length from the end.
type Spec = (Option<u64>, Option<u64>);

/// Ranges, most of which are of a few positions, so that some touch and some do not.
fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let number = || proptest::option::of(0..9_u64);
    let spec = prop_oneof![
        4 => (0..9_u64, 0..3_u64).prop_map(|(first, more)| (Some(first), Some(first + more))),
        1 => (number(), number()),
    ];
    vec(spec, 0..4)
}

/// Returns what `specs` select of `size` bytes, by the sets of their positions (RFC 9110 14.1).
fn select_naively(specs: &[Spec], size: u64) -> Selection {
    let mut sets = Vec::new();
    for spec in specs {
        let set: BTreeSet<u64> = match *spec {
            (None, None) => return Selection::Whole,
            (Some(first), Some(last)) if first > last => return Selection::Whole,
            (Some(first), last) => (0..size)
                .filter(|&at| at >= first && last.is_none_or(|last| at <= last))
                .collect(),
            (None, Some(length)) => (0..size).filter(|&at| at + length >= size).collect(),
        };
        sets.push(set);
    }
    sets.retain(|set| !set.is_empty());
    let sum: usize = sets.iter().map(BTreeSet::len).sum();
    let union: BTreeSet<_> = sets.iter().flatten().collect();
    let range = |set: &BTreeSet<u64>| ByteRange {
        start: *set.first().expect("a position"),
        end: *set.last().expect("a position") + 1,
    };
    match &sets[..] {
        [] if specs.is_empty() || size == 0 => Selection::Whole,
        [] => Selection::Unsatisfiable,
        [set] => Selection::Part(range(set)),
        _ if union.len() < sum => Selection::Whole,
        sets => Selection::Parts(sets.iter().map(range).collect()),
    }
}

/// A member of `Accept-Encoding`: a coding and its weight in thousandths.
type Member = (&'static str, Option<u16>);

fn members() -> impl Strategy<Value = Vec<Member>> {
    const NAMES: [&str; 8] = [
        "br", "zstd", "gzip", "x-gzip", "GZip", "identity", "*", "deflate",
    ];
    const WEIGHTS: [u16; 6] = [0, 1, 200, 500, 999, 1000];
    let weight = proptest::option::of(select(&WEIGHTS[..]));
    vec((select(&NAMES[..]), weight), 0..6)
}

/// Returns the weight of `coding` in thousandths (RFC 9110 12.5.3): of two that are said the first, but of two for `*`
/// the last.
fn weight(members: &[Member], coding: &str) -> Option<u16> {
    let named = |name: &str| name.to_lowercase().trim_start_matches("x-") == coding;
    let own = members.iter().find(|(name, _)| named(name));
    let any = members
        .iter()
        .rfind(|(name, _)| *name == "*" && coding != "identity");
    own.or(any).map(|(_, weight)| weight.unwrap_or(1000))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_path_is_translated_as_python_does_it(target in targets()) {
        let path = LocalPath::translate(".", &target);
        let bytes = file_names::to_bytes(path.as_str()).expect("bytes");
        prop_assert_eq!(
            bytes.escape_ascii().to_string(),
            translate_path(&target).escape_ascii().to_string()
        );
    }

    #[test]
    fn a_name_that_is_quoted_is_read_as_itself(name in vec(any::<u8>(), 1..20)) {
        let has_meaning = |name: &[u8]| name.contains(&b'/') || matches!(name, b"." | b"..");
        prop_assume!(!has_meaning(&name));
        let text = file_names::from_bytes(&name).into_owned();
        let link: String = quote(&text).collect();
        prop_assert!(link.is_ascii() && percent::is_well_formed(link.as_bytes()), "{link}");
        prop_assert_eq!(&unquote(&link), &name);
        let path = LocalPath::translate(".", &format!("/{link}"));
        prop_assert_eq!(path.as_str(), format!("./{text}"));
    }

    #[test]
    fn ranges_are_sets_of_positions(
        specs in specs(),
        size in 0..9_u64,
    ) {
        let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
        let texts: Vec<_> = specs
            .iter()
            .map(|&(first, last)| format!("{}-{}", number(first), number(last)))
            .collect();
        let request = request(&format!("Range: bytes={}", texts.join(", ")));
        prop_assert_eq!(ranges::select(&request, size), select_naively(&specs, size));
    }

    #[test]
    fn what_is_written_in_chunks_is_read_however_it_is_cut(
        pieces in vec((vec(any::<u8>(), 0..100), any::<bool>()), 0..8),
        cuts in vec(1..40_usize, 1..8),
        room in 1..40_usize,
    ) {
        let coded = RefCell::default();
        let mut wfile = Wfile::gathered(&coded);
        wfile.begin_content(Content::Chunked(None));
        for (piece, flushes) in &pieces {
            wfile.write_all(piece).expect("room");
            if *flushes {
                wfile.flush().expect("room");
            }
        }
        prop_assert!(wfile.end_content());
        wfile.send().expect("room");
        let coded = [coded.take(), b"more".to_vec()].concat();

        let (mut decoder, mut content, mut used) = (Decoder::default(), Vec::<u8>::new(), 0);
        for cut in cuts.iter().cycle() {
            if decoder.is_finished() {
                break;
            }
            let piece = &coded[used..coded.len().min(used + cut)];
            let mut out = vec![0; room];
            let (read, written) = decoder.decode(piece, &mut out).expect("chunks");
            prop_assert!(read > 0, "nothing is read");
            used += read;
            content.extend(&out[..written]);
        }
        let expected: Vec<u8> = pieces.into_iter().flat_map(|(piece, _)| piece).collect();
        prop_assert_eq!(content, expected);
        prop_assert_eq!(&coded[used..], b"more");
    }

    #[test]
    fn a_date_that_is_written_is_read_as_itself(seconds in 0..=LAST_SECOND) {
        let fixdate = date::http_date(seconds);
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        prop_assert_eq!(&fixdate, &httpdate::fmt_http_date(time));
        let (weekday, day, month) = (&fixdate[..3], fixdate[5..7].trim_start_matches('0'), &fixdate[8..11]);
        let (year, clock) = (&fixdate[12..16], &fixdate[17..25]);
        let asctime = format!("{weekday} {month} {day:>2} {clock} {year}");
        for text in [&fixdate[..], &fixdate[..25], &asctime] {
            prop_assert_eq!(date::parse_http_date(text), Some(seconds), "{}", text);
        }
        let rfc3339 = date::rfc3339(seconds, 0);
        prop_assert_eq!(&rfc3339[11..19], clock);
        prop_assert_eq!([&rfc3339[..4], &rfc3339[8..10]], [year, &fixdate[5..7]]);
    }

    #[test]
    fn codings_are_those_that_weigh_as_much_as_none(members in members(), blank in select(&["", " "][..])) {
        let texts: Vec<_> = members
            .iter()
            .map(|&(name, weight)| match weight {
                None => name.to_owned(),
                Some(1000) => format!("{name}{blank};q=1"),
                Some(weight) => format!("{name}{blank};{blank}q=0.{weight:03}"),
            })
            .collect();
        let request = request(&format!("Accept-Encoding: {}", texts.join(",")));
        let accepted: Vec<_> = coding::accepted(request.headers()).map(|(name, _)| name).collect();
        let identity = weight(&members, "identity").unwrap_or(1);
        let all = ["br", "zstd", "gzip"];
        let weights = all.map(|name| weight(&members, name).unwrap_or(0));
        for (name, weight) in all.iter().zip(weights) {
            prop_assert_eq!(accepted.contains(name), weight > 0 && weight >= identity, "{}", name);
        }
        let place = |name: &str| all.iter().position(|other| *other == name).expect("a coding");
        let is_before = |pair: &[&str]| {
            let (one, other) = (place(pair[0]), place(pair[1]));
            weights[one] > weights[other] || (weights[one] == weights[other] && one < other)
        };
        prop_assert!(accepted.windows(2).all(is_before), "{accepted:?} of {members:?}");
    }
}
