//! Feeds any bytes to [`sandserve_fuzz::bundle`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(bundle);
