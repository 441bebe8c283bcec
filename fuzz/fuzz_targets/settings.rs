//! Feeds any bytes to [`sandserve_fuzz::settings`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(settings);
