//! Whether the client already has what it asks for (RFC 9110 13). Pure: request and file in, yes or
//! no out.

use crate::date::parse_http_date;
use crate::request::Request;

/// Whether `If-Modified-Since` makes the answer 304. `last_modified` is in seconds since the epoch.
/// Ignored beside `If-None-Match`, and when it is no date (RFC 9110 13.1.3).
pub(crate) fn is_not_modified(request: &Request, last_modified: Option<u64>) -> bool {
    let Some(since) = request.headers().get("If-Modified-Since") else {
        return false;
    };
    let (Some(since), Some(last_modified)) = (parse_http_date(&since), last_modified) else {
        return false;
    };
    request.headers().get("If-None-Match").is_none() && last_modified <= since
}
