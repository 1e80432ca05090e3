//! The other end of the control socket, for commands.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::socket_path;

/// A way to the server that runs on a data folder.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// A way to the server, or an error in words if none runs there. One request goes over it.
    pub async fn connect(data_dir: &Path) -> anyhow::Result<Self> {
        let none = || {
            format!(
                "no server runs on this data folder ({}); start it first",
                data_dir.display()
            )
        };
        match Self::find(data_dir).await? {
            Some(client) => Ok(client),
            None => bail!("{}", none()),
        }
    }

    /// The same; `None` if no server runs there.
    pub async fn find(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = socket_path(data_dir)?;
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(Some(Self { stream })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => bail!(
                "{} is its owner's alone: run this command as the user that runs the server",
                path.display()
            ),
            Err(error) => Err(error).with_context(|| format!("the server cannot be asked at {}", path.display())),
        }
    }

    /// `GET path`: the answer, or the server's own sentence as the error.
    pub async fn get(self, path: &str) -> anyhow::Result<Value> {
        self.request("GET", path, None).await
    }

    /// `POST path` with a JSON body; as [`Self::get`].
    pub async fn post(self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.request("POST", path, Some(body)).await
    }

    /// `DELETE path`; as [`Self::get`].
    pub async fn delete(self, path: &str) -> anyhow::Result<Value> {
        self.request("DELETE", path, None).await
    }

    async fn request(self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(self.stream)).await?;
        let connection = tokio::spawn(connection);
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "control")
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(bytes)))?;
        let answer = sender
            .send_request(request)
            .await
            .context("the server has not answered")?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await?.to_bytes();
        connection.abort();
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        match (status.is_success(), answer["error"].as_str()) {
            (true, _) => Ok(answer),
            (false, Some(sentence)) => bail!("{sentence}"),
            (false, None) => bail!("the server that runs does not know {path} ({status}); is it of another version?"),
        }
    }
}
