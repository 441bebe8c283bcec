//! Settings that the host gives to the component: environment variables, the same under every WASI host.

pub(crate) mod users;

#[cfg(feature = "cgi")]
use std::borrow::Cow;
use std::cell::OnceCell;

use agreed::{fields, file_names, local_time, settings as names, syntax};
use percent_encoding::percent_decode_str;

use crate::files::conditions::EntityTags;
use crate::http1::request::Version;
use crate::log::access::Format;
use crate::settings::users::Users;

/// The most bytes of content that a request to upload may have, unless `SANDSERVE_UPLOAD_LIMIT` says
/// otherwise: 1 GiB.
const UPLOAD_LIMIT: u64 = 1 << 30;

/// The settings of the component, read once per instance. A value that makes no sense counts as not
/// given: our host has refused it already, and others show nobody what is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `SANDSERVE_PROTOCOL`: the version answered in, `HTTP/1.0` unless `HTTP/1.1` is asked for.
    pub(crate) protocol: Version,
    /// `SANDSERVE_QUIET`: no access log.
    pub(crate) quiet: bool,
    /// `SANDSERVE_LOG_FORMAT`: `common`, `combined` or `json`; Python's for anything else.
    pub(crate) log_format: Option<Format>,
    /// `SANDSERVE_UTC_OFFSET`: how far local time is ahead of UTC, and when that changes. Only the log shows
    /// local time, and WASI has no time zone to ask for.
    pub(crate) utc_offsets: String,
    /// `SANDSERVE_CLIENT_ADDRESS`: the field of a request in which another host than ours gives the address of the
    /// client. Nobody else may be able to send it.
    pub(crate) client_address: Option<String>,
    /// The fields of every response, by `SANDSERVE_HEADER`, with one on a line, `SANDSERVE_CORS` and
    /// `SANDSERVE_CROSS_ORIGIN_ISOLATION`.
    pub(crate) fields: Vec<(String, String)>,
    /// `SANDSERVE_CORS`: pages of every origin may read.
    pub(crate) cors: bool,
    /// `SANDSERVE_AUTH`, a `user:password`, and `SANDSERVE_AUTH_FILE`, an auth file's content: who may
    /// have anything at all; everybody, for `None`.
    pub(crate) users: Option<Users>,
    /// `SANDSERVE_CACHE`: for how many seconds a file may be used again without asking, as the
    /// `Cache-Control` that says so.
    pub(crate) cache_control: Option<String>,
    /// `SANDSERVE_ETAG`: the facts that entity tags are made of, `strong` unless `portable` is asked for.
    pub(crate) entity_tags: EntityTags,
    /// `SANDSERVE_SPA`: unknown paths without an extension are addresses within `/index.html`.
    pub(crate) spa: bool,
    /// `SANDSERVE_NOT_FOUND`: the file in the directory served that is the page of every 404.
    pub(crate) not_found: Option<String>,
    /// `SANDSERVE_BASE`: the path beneath which clients see the directory, decoded and without a slash at its end; empty for
    /// the root.
    pub(crate) base: String,
    /// `SANDSERVE_HIDE_DOTFILES`: names that begin with a dot do not exist.
    pub(crate) hide_dotfiles: bool,
    /// `SANDSERVE_COMPRESS`: text is compressed for clients that take it.
    pub(crate) compress: bool,
    /// `SANDSERVE_CHARSET`: what text is encoded in.
    pub(crate) charset: Option<String>,
    /// `SANDSERVE_CGI_DIRECTORY`: the directories of scripts, one on a line.
    #[cfg(feature = "cgi")]
    pub(crate) cgi_directories: Vec<Cow<'static, str>>,
    /// `SANDSERVE_MIME`: content types by extension (with its dot, in lower case).
    pub(crate) mime_types: Vec<(String, String)>,
    /// `SANDSERVE_UPLOAD`: PUT and POST put files into the directory served.
    pub(crate) upload: bool,
    /// `SANDSERVE_OVERWRITE`: also in the place of others.
    pub(crate) overwrite: bool,
    /// `SANDSERVE_UPLOAD_LIMIT`: the most bytes of content that a request to upload may have.
    pub(crate) upload_limit: Option<u64>,
}

impl Settings {
    /// Returns the settings in the environment of this instance.
    pub(crate) fn get() -> &'static Settings {
        thread_local! {
            static SETTINGS: OnceCell<&'static Settings> = const { OnceCell::new() };
        }
        SETTINGS.with(|settings| {
            *settings.get_or_init(|| {
                let variables = variables();
                // They go when the instance goes.
                Box::leak(Box::new(Settings::from_variables(
                    variables
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str())),
                )))
            })
        })
    }

    /// Returns whether the field `name` of a response is among [`Self::fields`], which then is said
    /// instead.
    pub(crate) fn replaces(&self, name: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|(replaced, _)| replaced.eq_ignore_ascii_case(name))
    }

    /// Returns how far local time is ahead of UTC at `seconds` since the epoch, in seconds.
    pub(crate) fn utc_offset(&self, seconds: u64) -> i32 {
        local_time::offset_at(&self.utc_offsets, seconds)
    }

    /// Returns the most bytes of content that a request to upload may have.
    pub(crate) fn upload_limit(&self) -> u64 {
        self.upload_limit.unwrap_or(UPLOAD_LIMIT)
    }

    pub(crate) fn from_variables<'v>(
        variables: impl Iterator<Item = (&'v str, &'v str)>,
    ) -> Settings {
        let mut settings = Settings::default();
        let mut header_lines = "";
        let mut isolation = false;
        for (name, value) in variables {
            match name {
                names::PROTOCOL if value == "HTTP/1.1" => settings.protocol = Version::Http11,
                names::QUIET => settings.quiet = syntax::is_on(value),
                names::LOG_FORMAT => settings.log_format = Format::from_name(value),
                names::UTC_OFFSET => settings.utc_offsets = value.to_owned(),
                names::CLIENT_ADDRESS => {
                    settings.client_address = syntax::is_token(value).then(|| value.to_owned());
                }
                names::HEADER => header_lines = value,
                names::CORS => settings.cors = syntax::is_on(value),
                names::CROSS_ORIGIN_ISOLATION => isolation = syntax::is_on(value),
                // Whoever sets these wants a closed door, whatever they say.
                names::AUTH => users(&mut settings).add_password(value),
                names::AUTH_FILE => users(&mut settings).add_entries(value),
                names::CACHE => settings.cache_control = value.parse().ok().map(cache_control),
                names::ETAG if value == "portable" => settings.entity_tags = EntityTags::Portable,
                names::SPA => settings.spa = syntax::is_on(value),
                names::NOT_FOUND => {
                    settings.not_found = syntax::name_beneath(value).ok().map(str::to_owned);
                }
                names::BASE => settings.base = base(value),
                names::HIDE_DOTFILES => settings.hide_dotfiles = syntax::is_on(value),
                names::COMPRESS => settings.compress = syntax::is_on(value),
                names::CHARSET => {
                    settings.charset = syntax::is_charset(value).then(|| value.to_owned());
                }
                #[cfg(feature = "cgi")]
                names::CGI_DIRECTORY => {
                    settings.cgi_directories = cgi_directories(value);
                }
                names::MIME => settings.mime_types = mime_types(value),
                names::UPLOAD => settings.upload = syntax::is_on(value),
                names::OVERWRITE => settings.overwrite = syntax::is_on(value),
                names::UPLOAD_LIMIT => settings.upload_limit = value.parse().ok(),
                _ => {}
            }
        }
        settings.fields = fields::of_every_response(header_lines, settings.cors, isolation);
        settings
    }
}

/// Returns the environment of this instance, each variable with its value.
#[cfg(not(feature = "bundle"))]
fn variables() -> Vec<(String, String)> {
    wasi::cli::environment::get_environment()
}

/// Returns the variables of the bundle, and in their place those that the environment of this instance has, too.
#[cfg(feature = "bundle")]
fn variables() -> Vec<(String, String)> {
    let environment = match cfg!(feature = "fuzzing") {
        // Checks have no host to ask.
        true => Vec::new(),
        false => wasi::cli::environment::get_environment(),
    };
    let is_given = |name: &str| environment.iter().any(|(given, _)| given == name);
    let mut variables = crate::files::filesystem::settings();
    variables.retain(|(name, _)| !is_given(name));
    variables.extend(environment);
    variables
}

fn users(settings: &mut Settings) -> &mut Users {
    settings.users.get_or_insert_default()
}

/// Returns the `Cache-Control` of RFC 9111 5.2.2: not asking again for so many seconds, or asking every
/// time.
fn cache_control(seconds: u32) -> String {
    match seconds {
        0 => "no-cache".into(),
        seconds => format!("max-age={seconds}"),
    }
}

fn base(value: &str) -> String {
    let base = syntax::base(value).unwrap_or_default();
    let bytes: Vec<u8> = percent_decode_str(&base).collect();
    file_names::from_bytes(&bytes).into_owned()
}

#[cfg(feature = "cgi")]
fn cgi_directories(value: &str) -> Vec<Cow<'static, str>> {
    let directories = value.lines().map(syntax::cgi_directory);
    directories.filter_map(Result::ok).map(Cow::Owned).collect()
}

fn mime_types(value: &str) -> Vec<(String, String)> {
    syntax::mime_types(value)
        .filter_map(Result::ok)
        .map(|(extension, content_type)| {
            let extension = format!(".{}", extension.to_ascii_lowercase());
            (extension, content_type.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(variables: &[(&'static str, &'static str)]) -> Settings {
        Settings::from_variables(variables.iter().copied())
    }

    #[test]
    fn variables_become_settings_and_others_are_ignored() {
        assert_eq!(
            set(&[("HOME", "/"), ("SANDSERVE_PROTOCOL", "HTTP/9")]),
            Settings::default()
        );
        assert_eq!(
            set(&[("SANDSERVE_PROTOCOL", "HTTP/1.1")]).protocol,
            Version::Http11
        );
        for (value, offsets) in [
            ("-3600", [-3600; 2]),
            ("0 9=7200", [0, 7200]),
            ("x", [0; 2]),
        ] {
            let settings = set(&[("SANDSERVE_UTC_OFFSET", value)]);
            assert_eq!([8, 9].map(|at| settings.utc_offset(at)), offsets, "{value}");
        }
        for (value, format) in [
            ("python", None),
            ("common", Some(Format::Common)),
            ("combined", Some(Format::Combined)),
            ("json", Some(Format::Json)),
            ("xml", None),
        ] {
            let settings = set(&[("SANDSERVE_LOG_FORMAT", value)]);
            assert_eq!(settings.log_format, format, "{value}");
        }
        for (value, quiet) in [
            ("1", true),
            ("true", true),
            ("0", false),
            ("false", false),
            ("", false),
        ] {
            assert_eq!(set(&[("SANDSERVE_QUIET", value)]).quiet, quiet, "{value}");
        }
    }

    #[test]
    fn what_makes_no_sense_counts_as_not_given() {
        for variable in [
            ("SANDSERVE_HEADER", "no header\nDate: never\n"),
            ("SANDSERVE_CLIENT_ADDRESS", ""),
            ("SANDSERVE_CLIENT_ADDRESS", "x-forwarded-for: 1"),
            ("SANDSERVE_CACHE", "-1"),
            ("SANDSERVE_CACHE", ""),
            ("SANDSERVE_NOT_FOUND", ""),
            ("SANDSERVE_BASE", ""),
            ("SANDSERVE_BASE", "docs"),
            ("SANDSERVE_BASE", "/docs/.."),
            ("SANDSERVE_CHARSET", "a b"),
            ("SANDSERVE_MIME", "txt,=a/b"),
            ("SANDSERVE_UPLOAD_LIMIT", "1 GiB"),
        ] {
            assert_eq!(set(&[variable]), Settings::default(), "{variable:?}");
        }
    }

    #[test]
    fn who_may_come_in_is_asked_even_where_it_makes_no_sense() {
        for variable in [
            ("SANDSERVE_AUTH", "a:b"),
            ("SANDSERVE_AUTH", ""),
            ("SANDSERVE_AUTH_FILE", ""),
            ("SANDSERVE_AUTH_FILE", "/etc/users"),
        ] {
            assert!(set(&[variable]).users.is_some(), "{variable:?}");
        }
        assert_eq!(set(&[("SANDSERVE_CORS", "1")]).users, None);
    }

    #[test]
    fn a_base_is_decoded() {
        for (value, expected) in [
            ("/docs/", "/docs"),
            ("/a%20b/%C3%BC/", "/a b/\u{fc}"),
            ("/%ff", "/\u{10f7ff}"),
            ("/", ""),
        ] {
            assert_eq!(set(&[("SANDSERVE_BASE", value)]).base, expected, "{value}");
        }
    }

    #[test]
    fn caching_is_said_in_seconds() {
        for (value, expected) in [("60", "max-age=60"), ("0", "no-cache")] {
            let settings = set(&[("SANDSERVE_CACHE", value)]);
            assert_eq!(settings.cache_control.as_deref(), Some(expected));
        }
    }

    #[test]
    fn fields_that_are_given_come_before_those_of_switches() {
        let settings = set(&[
            ("SANDSERVE_CROSS_ORIGIN_ISOLATION", "1"),
            ("SANDSERVE_CORS", "1"),
            (
                "SANDSERVE_HEADER",
                "X-A: 1\r\ncross-origin-embedder-policy: credentialless\nX-A: 2",
            ),
        ]);
        let found: Vec<_> = settings
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        assert_eq!(
            found,
            [
                "X-A: 1",
                "cross-origin-embedder-policy: credentialless",
                "X-A: 2",
                "Access-Control-Allow-Origin: *",
                "Access-Control-Expose-Headers: Accept-Ranges, Content-Length, Content-Range, ETag",
                "Cross-Origin-Opener-Policy: same-origin",
                "Cross-Origin-Resource-Policy: cross-origin",
            ]
        );
        assert!(settings.replaces("x-a"));
        assert!(!settings.replaces("Server"));
    }
}
