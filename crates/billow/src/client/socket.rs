//! The WebSocket to a server: messages out, messages in, reconnecting with back-off when asked to.

use std::time::Duration;

use anyhow::{Context, bail};
use billow_server::web::messages::{ClientMessage, ServerMessage};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::http::{ServerUrl, Stream};
use super::profile::Profile;

/// One signed-in connection.
pub struct Socket {
    profile: Profile,
    stream: WebSocketStream<Box<dyn Stream>>,
}

impl Socket {
    /// Connects and reads the welcome.
    pub async fn connect(profile: &Profile) -> anyhow::Result<Self> {
        let url: ServerUrl = profile.url.parse()?;
        let mut request = format!(
            "{}://{}:{}/socket",
            if url.tls { "wss" } else { "ws" },
            url.host,
            url.port
        )
        .into_client_request()
        .context("the server's address makes no WebSocket address")?;
        let bearer = format!("Bearer {}", profile.token)
            .parse()
            .context("the profile's token is damaged")?;
        request.headers_mut().insert("Authorization", bearer);
        let (stream, _) = tokio_tungstenite::client_async(request, url.connect().await?)
            .await
            .with_context(|| {
                format!(
                    "{url} refused: sign in again with `billow login {url} {}`",
                    profile.address
                )
            })?;
        let mut socket = Self {
            profile: profile.clone(),
            stream,
        };
        match socket.next().await? {
            ServerMessage::Welcome { .. } => Ok(socket),
            other => bail!("expected a welcome from {url}, got {other:?}"),
        }
    }

    /// Connects anew after the connection broke, with back-off up to `patience` in all.
    pub async fn reconnect(&mut self, patience: Duration) -> anyhow::Result<()> {
        let give_up = tokio::time::Instant::now() + patience;
        let mut pause = Duration::from_millis(50);
        loop {
            match Self::connect(&self.profile).await {
                Ok(fresh) => {
                    *self = fresh;
                    return Ok(());
                }
                Err(error) if tokio::time::Instant::now() + pause > give_up => return Err(error),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &ClientMessage) -> anyhow::Result<()> {
        let text = serde_json::to_string(message).expect("client messages are plain JSON");
        self.stream
            .send(Message::text(text))
            .await
            .context("the connection to the server broke")
    }

    /// The next message; an error when the connection ended.
    pub async fn next(&mut self) -> anyhow::Result<ServerMessage> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).context("the server speaks another version of the protocol");
                }
                Some(Ok(Message::Close(_))) | None => bail!("the server closed the connection"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the connection to the server broke"),
            }
        }
    }

    /// The next message, waiting no longer than `patience`.
    pub async fn next_within(&mut self, patience: Duration) -> anyhow::Result<ServerMessage> {
        tokio::time::timeout(patience, self.next())
            .await
            .map_err(|_| anyhow::anyhow!("no answer from {} within {} s", self.profile.url, patience.as_secs()))?
    }
}
