//! Feeds any bytes to [`sandserve_fuzz::date`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(date);
