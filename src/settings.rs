//! What the host says about how to serve: environment variables, the same under every WASI host.

use std::cell::OnceCell;

use crate::request::Version;

/// The settings of the component, read once per instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `SANDSERVE_PROTOCOL`: the version answered in, `HTTP/1.0` unless `HTTP/1.1` is asked for.
    pub(crate) protocol: Version,
    /// `SANDSERVE_QUIET`: no access log, if set to anything but nothing, `0` or `false`.
    pub(crate) quiet: bool,
    /// `SANDSERVE_UTC_OFFSET`: how far local time is ahead of UTC, in seconds. Only the log shows
    /// local time, and WASI has no time zone to ask for.
    pub(crate) utc_offset: i32,
}

impl Settings {
    /// The settings in the environment of this instance.
    pub(crate) fn get() -> Settings {
        thread_local! {
            static SETTINGS: OnceCell<Settings> = const { OnceCell::new() };
        }
        SETTINGS.with(|settings| {
            *settings.get_or_init(|| {
                let variables = wasi::cli::environment::get_environment();
                Settings::from_variables(
                    variables
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str())),
                )
            })
        })
    }

    fn from_variables<'v>(variables: impl Iterator<Item = (&'v str, &'v str)>) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in variables {
            match name {
                "SANDSERVE_PROTOCOL" if value == "HTTP/1.1" => settings.protocol = Version::Http11,
                "SANDSERVE_QUIET" => settings.quiet = !matches!(value, "" | "0" | "false"),
                "SANDSERVE_UTC_OFFSET" => settings.utc_offset = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_settings_and_others_are_ignored() {
        let set = |variables: &[(&'static str, &'static str)]| {
            Settings::from_variables(variables.iter().copied())
        };
        assert_eq!(
            set(&[("HOME", "/"), ("SANDSERVE_PROTOCOL", "HTTP/9")]),
            Settings::default()
        );
        assert_eq!(
            set(&[("SANDSERVE_PROTOCOL", "HTTP/1.1")]).protocol,
            Version::Http11
        );
        assert_eq!(set(&[("SANDSERVE_UTC_OFFSET", "-3600")]).utc_offset, -3600);
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
}
