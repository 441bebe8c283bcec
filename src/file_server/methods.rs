//! The methods that are served, for `Allow` (RFC 9110 10.2.1).

use crate::settings::Settings;

/// Returns the methods that are served by `settings`, separated by commas, without `refused`, which the
/// target of a request does not take.
pub(crate) fn allowed(settings: &Settings, refused: Option<&str>) -> String {
    let posts = settings.upload || cfg!(feature = "cgi");
    let methods = [
        ("GET", true),
        ("HEAD", true),
        ("POST", posts),
        ("PUT", settings.upload),
        ("OPTIONS", settings.cors),
    ];
    let served = methods
        .into_iter()
        .filter(|&(method, is_served)| is_served && Some(method) != refused)
        .map(|(method, _)| method);
    served.collect::<Vec<_>>().join(", ")
}

#[cfg(all(test, not(feature = "cgi")))]
mod tests {
    use super::*;

    #[test]
    fn what_flags_add_is_allowed_and_what_was_refused_is_not() {
        for (cors, upload, refused, methods) in [
            (false, false, None, "GET, HEAD"),
            (true, false, None, "GET, HEAD, OPTIONS"),
            (true, true, None, "GET, HEAD, POST, PUT, OPTIONS"),
            (true, true, Some("PUT"), "GET, HEAD, POST, OPTIONS"),
            (false, true, Some("POST"), "GET, HEAD, PUT"),
        ] {
            let settings = Settings {
                cors,
                upload,
                ..Settings::default()
            };
            assert_eq!(allowed(&settings, refused), methods);
        }
    }
}
