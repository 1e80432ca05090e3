//! What waits to be sent to one client.
//!
//! Bounded in bytes; at the bound the client is cut off, comes back, and goes on from the versions it has. The snapshots
//! that it asked for do not count: they are as large as the wavelet, and cutting it off would only have it ask again.
//! Of messages that only ever tell the latest (a caret, a row, a delivery state) the older one is dropped while it waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::sync::Notify;

use super::messages::ServerMessage;

/// A client that takes nothing for so long is gone.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// As many messages are taken from the queue before they are flushed together.
const BATCH: usize = 64;

/// The session's side of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    ping: bool,
    closing: Option<(u16, &'static str)>,
    ended: bool,
}

#[derive(Debug)]
struct Waiting {
    /// Equal for messages of which only the latest counts.
    latest_of: Option<String>,
    text: Utf8Bytes,
    counted: bool,
}

/// What is written and flushed together.
struct Batch {
    batch: Vec<Waiting>,
    ping: bool,
    closing: Option<(u16, &'static str)>,
}

/// The client takes too little; there is no more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overfull;

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                ready: Notify::new(),
                bytes_max,
            }),
        }
    }

    /// Sends a message after those that wait.
    pub(crate) fn send(&self, message: &ServerMessage) -> Result<(), Overfull> {
        let text = serde_json::to_string(message).expect("the messages hold nothing that JSON cannot");
        let counted = !matches!(message, ServerMessage::Snapshot { .. } | ServerMessage::Inbox { .. });
        self.push(Waiting {
            latest_of: latest_of(message),
            text: text.into(),
            counted,
        })
    }

    /// Sends a message that is JSON already.
    pub(crate) fn send_json(&self, json: &str, counted: bool) -> Result<(), Overfull> {
        self.push(Waiting {
            latest_of: None,
            text: json.into(),
            counted,
        })
    }

    /// Asks the client's side of the socket whether it is still there.
    pub(crate) fn ping(&self) {
        self.queue().ping = true;
        self.shared.ready.notify_one();
    }

    /// Closes the socket after what waits was sent.
    pub(crate) fn close(&self, code: u16, reason: &'static str) {
        self.queue().closing.get_or_insert((code, reason));
        self.shared.ready.notify_one();
    }

    /// Whether nothing will be sent any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.queue().ended
    }

    fn push(&self, message: Waiting) -> Result<(), Overfull> {
        let mut queue = self.queue();
        if queue.bytes > self.shared.bytes_max {
            return Err(Overfull);
        }
        if message.latest_of.is_some()
            && let Some(at) = queue
                .waiting
                .iter()
                .position(|older| older.latest_of == message.latest_of)
        {
            let older = queue.waiting.remove(at).expect("the position was just found");
            queue.bytes -= older.weight();
        }
        queue.bytes += message.weight();
        queue.waiting.push_back(message);
        drop(queue);
        self.shared.ready.notify_one();
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is sent, until it is closed or the client is gone.
    pub(crate) async fn write_to(self, mut socket: SplitSink<WebSocket, Message>) {
        let outcome = self.write_all(&mut socket).await;
        if let Err(reason) = outcome {
            tracing::debug!(reason, "a socket ended");
        }
        let mut queue = self.queue();
        queue.ended = true;
        queue.waiting.clear();
    }

    async fn write_all(&self, socket: &mut SplitSink<WebSocket, Message>) -> Result<(), &'static str> {
        loop {
            let Batch { batch, ping, closing } = self.next_batch().await;
            let weight: usize = batch.iter().map(Waiting::weight).sum();
            let write = async {
                for message in batch {
                    socket.feed(Message::Text(message.text)).await?;
                }
                if ping {
                    socket.feed(Message::Ping(Bytes::new())).await?;
                }
                socket.flush().await
            };
            match tokio::time::timeout(WRITE_STALL, write).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err("the client is gone"),
                Err(_) => return Err("the client takes nothing"),
            }
            self.queue().bytes -= weight;
            if let Some((code, reason)) = closing {
                let close = Message::Close(Some(CloseFrame {
                    code,
                    reason: reason.into(),
                }));
                let _ = tokio::time::timeout(WRITE_STALL, socket.send(close)).await;
                return Ok(());
            }
        }
    }

    /// Waits for something to do; with the last batch comes the close.
    async fn next_batch(&self) -> Batch {
        loop {
            {
                let mut queue = self.queue();
                let count = queue.waiting.len().min(BATCH);
                let batch: Vec<Waiting> = queue.waiting.drain(..count).collect();
                let closing = queue.closing.filter(|_| queue.waiting.is_empty());
                let ping = std::mem::take(&mut queue.ping);
                if ping || !batch.is_empty() || closing.is_some() {
                    return Batch { batch, ping, closing };
                }
            }
            self.shared.ready.notified().await;
        }
    }
}

impl Waiting {
    fn weight(&self) -> usize {
        if self.counted { self.text.len() } else { 0 }
    }
}

fn latest_of(message: &ServerMessage) -> Option<String> {
    match message {
        ServerMessage::Caret {
            wavelet,
            session,
            address,
            ..
        } => Some(format!("caret {wavelet} {address} {session}")),
        ServerMessage::Delivery { wavelet, .. } => Some(format!("delivery {wavelet}")),
        ServerMessage::ReadState { wavelet, .. } => Some(format!("read {wavelet}")),
        ServerMessage::InboxRow { row } => Some(format!("row {}", row.wave)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(wave: &str) -> ServerMessage {
        ServerMessage::InboxGone { wave: wave.to_owned() }
    }

    fn caret(session: &str, anchor: u32) -> ServerMessage {
        ServerMessage::Caret {
            wavelet: "w".to_owned(),
            address: "a".to_owned(),
            session: session.to_owned(),
            version: 1,
            document: None,
            anchor,
            focus: anchor,
            typing: false,
        }
    }

    #[tokio::test]
    async fn of_carets_only_the_latest_waits() {
        let outbox = Outbox::new(10_000);
        for anchor in 0..100 {
            outbox.send(&caret("s", anchor)).unwrap();
            outbox.send(&gone(&anchor.to_string())).unwrap();
        }
        outbox.send(&caret("t", 7)).unwrap();
        let mut texts = Vec::new();
        while texts.len() < 102 {
            texts.extend(
                outbox
                    .next_batch()
                    .await
                    .batch
                    .into_iter()
                    .map(|message| message.text.to_string()),
            );
        }
        let carets: Vec<&String> = texts.iter().filter(|text| text.contains("\"caret\"")).collect();
        assert_eq!(carets.len(), 2);
        assert!(carets[0].contains("\"anchor\":99"), "{carets:?}");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_overfull_but_its_snapshot_does_not_count() {
        let outbox = Outbox::new(1000);
        outbox.send_json(&"x".repeat(5000), false).unwrap();
        let mut sent = 0;
        while outbox.send(&gone("example.org/w+abc")).is_ok() {
            sent += 1;
            assert!(sent < 1000, "there is no bound");
        }
        assert!(sent > 10);
        outbox.close(1013, "slow");
        let mut closed = None;
        while closed.is_none() {
            closed = outbox.next_batch().await.closing;
        }
        assert_eq!(closed, Some((1013, "slow")));
    }
}
