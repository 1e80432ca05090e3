//! A client for the tests: plain HTTP over a socket, and the client protocol over a WebSocket.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

/// Nothing in these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// `name=value` of the cookie that is set.
    pub(crate) fn cookie(&self) -> String {
        self.header("set-cookie")
            .expect("a cookie is set")
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    }
}

/// Sends a request as a script would, with these headers besides the usual ones.
pub(crate) async fn request(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    if !body.is_empty() {
        text.push_str(&format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        ));
    }
    raw(at, format!("{text}\r\n{body}").as_bytes()).await
}

/// Sends these very bytes.
pub(crate) async fn raw(at: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an answer in time")
        .unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        head: head.to_owned(),
        body: serde_json::from_str(text).unwrap_or(Value::Null),
        text: text.to_owned(),
    }
}

/// A `POST` that changes something.
pub(crate) async fn post(at: SocketAddr, path: &str, token: Option<&str>, body: Value) -> Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("X-Billow", "1")];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    request(at, "POST", path, &headers, Some(body)).await
}

/// Registers; gives the token.
pub(crate) async fn register(at: SocketAddr, address: &str) -> String {
    let answer = post(
        at,
        "/api/register",
        None,
        json!({ "address": address, "password": "correct horse" }),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["token"].as_str().expect("a token").to_owned()
}

/// One end of the client protocol.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// Connects and takes the welcome.
    pub(crate) async fn connect(at: SocketAddr, token: &str) -> Self {
        let mut client = Self::try_connect(at, &[("Authorization", &format!("Bearer {token}"))])
            .await
            .unwrap();
        client.expect("welcome").await;
        client
    }

    /// Connects with these headers; the status if it is refused.
    pub(crate) async fn try_connect(at: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{at}/socket").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(at).await.unwrap();
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message; `None` when the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("a message in time")?
            {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next message of a type; others are passed over.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        self.expect_where(kind, |_| true).await
    }

    /// The next message of a type that satisfies something.
    pub(crate) async fn expect_where(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self
                .next()
                .await
                .unwrap_or_else(|| panic!("closed while waiting for {kind}"));
            assert!(message["type"] != "error" || kind == "error", "{message}");
            if message["type"] == kind && wanted(&message) {
                return message;
            }
        }
    }

    /// Everything up to a type, that included.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let message = self
                .next()
                .await
                .unwrap_or_else(|| panic!("closed while waiting for {kind}"));
            let last = message["type"] == kind;
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// All that has come until the server answers a ping.
    pub(crate) async fn settled(&mut self) -> Vec<Value> {
        self.send(json!({ "type": "ping" })).await;
        let mut messages = self.until("pong").await;
        messages.pop();
        messages
    }

    /// Opens a wave; gives everything up to `opened`.
    pub(crate) async fn open(&mut self, wave: &str, known: Option<(&str, u64)>) -> Vec<Value> {
        let known: Vec<Value> = known
            .iter()
            .map(|(wavelet, version)| json!({ "wavelet": wavelet, "version": version }))
            .collect();
        self.send(json!({ "type": "open", "wave": wave, "known": known })).await;
        self.until("opened").await
    }
}
