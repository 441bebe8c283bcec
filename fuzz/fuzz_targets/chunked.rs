//! Feeds any bytes to [`sandserve_fuzz::chunked`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(chunked);
