//! Feeds any bytes to [`sandserve_fuzz::cgi_head`].
#![cfg_attr(fuzzing, no_main)]

sandserve_fuzz::target!(cgi_head);
