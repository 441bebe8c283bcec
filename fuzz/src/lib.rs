//! Checks of what reads bytes of strangers. Each takes any bytes and panics where a promise does not hold. `fuzz/run`
//! looks for bytes that break one; `tests/seeds.rs` feeds them the seeds on any toolchain.

use agreed::bundle::{Bundle, Entry};
use agreed::credentials;
use agreed::proxies::TrustedProxy;
use agreed::syntax;

pub use sandserve::fuzzing::{accept, cgi_head, chunked, date, form_data, path, ranges};

use extent::{Extent, Head};

/// The count of a head that the host keeps: its own file, as the server around it would take minutes to build.
#[allow(dead_code, reason = "the server uses all of it")]
#[path = "../../host/server/src/transport/head.rs"]
mod extent;

/// Most entries of a bundle that [`bundle`] looks at: a header may claim 40 million.
const MAX_ENTRIES: u32 = 1000;

/// A check of any bytes.
pub type Target = fn(&[u8]);

/// Every target, by its name.
pub const TARGETS: [(&str, Target); 11] = [
    ("accept", accept),
    ("bundle", bundle),
    ("cgi_head", cgi_head),
    ("chunked", chunked),
    ("date", date),
    ("form_data", form_data),
    ("head", head),
    ("path", path),
    ("ranges", ranges),
    ("serve", serve),
    ("settings", settings),
];

/// Checks that a head is read the same however it is cut, by the component and by the host, and that both find the
/// same end.
pub fn head(data: &[u8]) {
    sandserve::fuzzing::head(data);
    let whole = Head::default().look(data);
    let mut head = Head::default();
    let in_pieces = (0..=data.len())
        .map(|end| head.look(&data[..end]))
        .find(|extent| *extent != Extent::Incomplete);
    match (whole, in_pieces) {
        // Bytes that cannot begin a head are over a limit as soon as that shows.
        (Extent::OverLimit(_), Some(Extent::OverLimit(_))) => {}
        _ => assert_eq!(whole, in_pieces.unwrap_or(Extent::Incomplete)),
    }
    let end = sandserve::fuzzing::end_of_head(data);
    match whole {
        Extent::Whole(host) => {
            let end = end.expect("the component waits for more of a head than the host");
            assert!(end.is_none_or(|end| end == host), "{end:?}, {host}");
        }
        Extent::OverLimit(length) => {
            let end = sandserve::fuzzing::end_of_head(&data[..length]);
            assert_eq!(end, Some(None), "the host gives up a head that is taken");
        }
        Extent::Incomplete => {
            assert!(
                !matches!(end, Some(Some(_))),
                "the host waits for more of a head than the component: {end:?}"
            );
        }
    }
}

/// Checks that any bytes on a connection are answered as they should be, and in any pieces alike, with heads counted as the
/// host counts them.
pub fn serve(data: &[u8]) {
    sandserve::fuzzing::serve(data, |bytes| match Head::default().look(bytes) {
        Extent::Whole(size) => Some((size, true)),
        Extent::OverLimit(size) => Some((size, false)),
        Extent::Incomplete => None,
    });
}

/// Checks that no bytes make the reader of a bundle panic, read outside of it, or make room for what is not there.
pub fn bundle(data: &[u8]) {
    let Some(bundle) = Bundle::open(data) else {
        return;
    };
    assert!(
        bundle.header().size() <= data.len() as u64,
        "a bundle that goes on behind its end"
    );
    bundle.settings();
    let entries = (0..bundle.header().entries.min(MAX_ENTRIES)).filter_map(|at| bundle.entry(at));
    for entry in entries {
        let name = bundle.name(&entry);
        bundle.find(&entry, name.as_deref().unwrap_or("index.html"));
        for position in [0, 1, entry.length.into(), u64::MAX] {
            let mut into = [0; 100];
            let read = bundle.read(&entry, position, &mut into);
            assert!(read.unwrap_or(0) <= into.len());
        }
        let again = Entry::from_bytes(&entry.to_bytes());
        assert_eq!(again, Some(entry), "an entry that is written as another");
    }
}

/// Checks the values of settings, as the host and the component read them.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    sandserve::fuzzing::settings(&text);
    for value in text.split('\0') {
        let _ = syntax::dir(value);
        let _ = syntax::dir_access(value);
        let _ = syntax::variable(value);
        let _ = credentials::check(value);
        let _ = TrustedProxy::parse(value);
        syntax::mime_types(value).for_each(drop);
        credentials::entries(value).for_each(drop);
        if let Ok((name, value)) = syntax::header(value) {
            assert!(syntax::is_token(name), "{name:?}");
            assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
        }
        if let Ok(name) = syntax::name_beneath(value) {
            assert!(name.split('/').all(|segment| segment != ".."), "{name:?}");
        }
    }
}

/// Makes a program of a target: one that fuzzes, or without `cfg(fuzzing)` one that reads the files it is given.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$name(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            for file in std::env::args_os().skip(1) {
                $crate::$name(&std::fs::read(file)?);
            }
            Ok(())
        }
    };
}
