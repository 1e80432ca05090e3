//! The built web client, inside the program (in debug builds: read from `web/dist`).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Dist;

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Billow</title>\
    <h1>Billow runs, without its web client</h1>\
    <p>The client was not built into this program. In the source folder: <code>make build</code>.</p></html>";

/// Answers a GET of anything that is not the API: a file of the client, or the one page for the addresses it knows itself.
pub(super) fn file(path: &str, request: &HeaderMap) -> Response {
    let Some(name) = path.strip_prefix('/') else {
        return not_found();
    };
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    // No file of the client and no wave needs an escape of these, and no server behind us reads them differently.
    let lower = name.to_ascii_lowercase();
    if ["%00", "%2f", "%5c", "%2e", "\\"]
        .iter()
        .any(|escape| lower.contains(escape))
    {
        return not_found();
    }
    if name.is_empty() || name.starts_with("w/") || name == "index.html" {
        return page(request);
    }
    if name.trim_end_matches('/').split('/').any(odd) {
        return not_found();
    }
    if let Some(file) = Dist::get(name) {
        return answer(name, file, request);
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains('.') || name.starts_with("assets/") {
        not_found()
    } else {
        page(request)
    }
}

/// The one page.
fn page(request: &HeaderMap) -> Response {
    match Dist::get("index.html") {
        Some(file) => answer("index.html", file, request),
        None => {
            let mut response = Response::new(Body::from(NOT_BUILT));
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/html; charset=utf-8"),
            );
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
    }
}

fn answer(name: &str, file: EmbeddedFile, request: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", &hex::encode(file.metadata.sha256_hash())[..32]);
    let unchanged = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|have| have.as_bytes() == tag.as_bytes());
    let mut response = match unchanged {
        true => Response::new(Body::empty()),
        false => Response::new(Body::from(file.data.into_owned())),
    };
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    // The names of the files under assets/ hold a hash of their content.
    let lasting = name.starts_with("assets/");
    let cache = if lasting {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind_of(name)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(
        header::ETAG,
        HeaderValue::from_str(&tag).expect("hex in quotes is a header value"),
    );
    response
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn not_found() -> Response {
    let mut response = Response::new(Body::from("there is nothing here\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_the_client_are_not_found() {
        for path in [
            "",
            "/..",
            "/../x",
            "/a/../b",
            "/assets/..%2fx",
            "/%00",
            "/a//b",
            "/assets/",
            "/assets/no.js",
            "/no.php",
            "/a/%2e%2e/b",
            "/a\\b",
            "/./a",
        ] {
            assert_eq!(file(path, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{path}");
        }
        for path in ["/", "/w/example.org/w+abc", "/index.html", "/settings"] {
            assert_eq!(file(path, &HeaderMap::new()).status(), StatusCode::OK, "{path}");
        }
    }
}
