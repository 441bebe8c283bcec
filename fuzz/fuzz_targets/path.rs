//! Feeds any bytes to [`sandserve_fuzz::path`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(path);
