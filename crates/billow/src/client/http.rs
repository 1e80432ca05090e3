//! Small JSON requests to a server's HTTP interface.

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Where a server listens: `http://host:port` or `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether TLS is used.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::str::FromStr for ServerUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || anyhow::anyhow!("expected a server's address like http://localhost:9898, got {text:?}");
        let (tls, rest) = match text.split_once("://").ok_or_else(refused)? {
            ("http", rest) => (false, rest),
            ("https", rest) => (true, rest),
            _ => return Err(refused()),
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains('/') {
            return Err(refused());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| refused())?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}://{}:{}",
            if self.tls { "https" } else { "http" },
            self.host,
            self.port
        )
    }
}

impl ServerUrl {
    /// A byte stream to the server, encrypted when the address says so.
    pub async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .with_context(|| format!("cannot reach {self}: is the server running there?"))?;
        tcp.set_nodelay(true)?;
        if !self.tls {
            return Ok(Box::new(tcp));
        }
        let name = rustls::pki_types::ServerName::try_from(self.host.clone()).context("the host is no server name")?;
        let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls_config()?))
            .connect(name, tcp)
            .await
            .map_err(|error| self.tls_failed(&error))?;
        Ok(Box::new(stream))
    }

    /// A port that speaks plain HTTP answers a handshake with what is no TLS record.
    fn tls_failed(&self, error: &std::io::Error) -> anyhow::Error {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidMessage(_)) => {
                anyhow::anyhow!(
                    "{self} does not speak TLS there; try http://{}:{}",
                    self.host,
                    self.port
                )
            }
            Some(rustls::Error::InvalidCertificate(reason)) => {
                anyhow::anyhow!("{self} has no certificate that this machine trusts: {reason:?}")
            }
            _ => anyhow::anyhow!("{self}: the TLS handshake failed: {error}"),
        }
    }
}

/// A byte stream, plain or encrypted.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

fn tls_config() -> anyhow::Result<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_file_iter(SYSTEM_ROOTS)
        .with_context(|| format!("expected the system's trusted certificates in {SYSTEM_ROOTS}"))?
    {
        // One root that this library cannot read does not make the others useless.
        let _ = roots.add(certificate?);
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// `POST path` with a JSON body; the answer's JSON, or the server's own sentence as the error.
pub async fn post(url: &ServerUrl, path: &str, token: Option<&str>, body: &Value) -> anyhow::Result<Value> {
    request(url, "POST", path, token, Some(body)).await
}

/// `GET path`; as [`post`].
pub async fn get(url: &ServerUrl, path: &str, token: Option<&str>) -> anyhow::Result<Value> {
    request(url, "GET", path, token, None).await
}

async fn request(
    url: &ServerUrl,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(url.connect().await?)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", format!("{}:{}", url.host, url.port))
        .header("X-Billow", "1")
        .header("Content-Type", "application/json");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let bytes = body.map(|body| body.to_string()).unwrap_or_default();
    let answer = sender
        .send_request(request.body(Full::new(Bytes::from(bytes)))?)
        .await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    let json: Value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    };
    if status.is_success() {
        return Ok(json);
    }
    match json["error"].as_str() {
        Some(sentence) => bail!("{sentence}"),
        None => bail!("{url}{path} answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_written() {
        let url: ServerUrl = "http://localhost:9898/".parse().expect("a url");
        assert_eq!(
            url,
            ServerUrl {
                tls: false,
                host: "localhost".into(),
                port: 9898
            }
        );
        assert_eq!(url.to_string(), "http://localhost:9898");
        assert_eq!(
            "https://wave.example.org".parse::<ServerUrl>().expect("a url").port,
            443
        );
    }

    #[test]
    fn what_is_no_url_is_named() {
        for text in ["localhost:9898", "ftp://x", "http://", "http://x:port", "http://x/y"] {
            let error = text.parse::<ServerUrl>().expect_err("no url").to_string();
            assert!(
                error.contains(text) && error.contains("http://localhost:9898"),
                "{error}"
            );
        }
    }
}
