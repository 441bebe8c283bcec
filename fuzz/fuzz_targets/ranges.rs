//! Feeds any bytes to [`sandserve_fuzz::ranges`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(ranges);
