//! The bound that the pipeline is measured against: a plain program that echoes WebSocket messages to everybody in a
//! room after appending them to a file with fsync (many at once) and, if asked, signing each with RSA-2048.
//! No operations, no transformation, no accounts.
//!
//! `bound [--sign]` prints the port it listens on and runs until its standard input ends.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

type Rooms = Arc<Mutex<HashMap<String, Vec<mpsc::UnboundedSender<Arc<str>>>>>>;

struct Written {
    room: String,
    text: Arc<str>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sign = std::env::args().any(|argument| argument == "--sign");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let rooms = Rooms::default();
    let (writer, written) = std::sync::mpsc::channel();
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let for_writer = Arc::clone(&rooms);
    std::thread::spawn(move || write(&written, &for_writer, sign.then_some(&key)));
    loop {
        let (tcp, _) = listener.accept().await?;
        tokio::spawn(serve(tcp, Arc::clone(&rooms), writer.clone()));
    }
}

#[allow(clippy::result_large_err, reason = "the library's own error type")]
async fn serve(tcp: TcpStream, rooms: Rooms, writer: std::sync::mpsc::Sender<Written>) {
    let _ = tcp.set_nodelay(true);
    let mut room = String::new();
    let callback = |request: &Request, response: Response| {
        room = request.uri().path().to_owned();
        Ok(response)
    };
    let Ok(stream) = tokio_tungstenite::accept_hdr_async(tcp, callback).await else { return };
    let (mut out, mut input) = stream.split();
    let (sender, mut receiver) = mpsc::unbounded_channel::<Arc<str>>();
    rooms.lock().expect("no panics").entry(room.clone()).or_default().push(sender);
    tokio::spawn(async move {
        while let Some(text) = receiver.recv().await {
            if out.send(Message::text(text.to_string())).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = input.next().await {
        if let Message::Text(text) = message {
            let _ = writer.send(Written { room: room.clone(), text: text.as_str().into() });
        }
    }
}

/// One thread: takes all that waits, signs, appends, syncs once, and only then tells the rooms.
fn write(written: &std::sync::mpsc::Receiver<Written>, rooms: &Rooms, key: Option<&PKey<Private>>) {
    let mut file = tempfile::tempfile().expect("a file");
    while let Ok(first) = written.recv() {
        let mut batch = vec![first];
        batch.extend(written.try_iter().take(999));
        for one in &batch {
            file.write_all(one.text.as_bytes()).expect("the disk is there");
            if let Some(key) = key {
                let mut signer = Signer::new(MessageDigest::sha1(), key).expect("an RSA key signs");
                file.write_all(&signer.sign_oneshot_to_vec(one.text.as_bytes()).expect("it signs")).expect("the disk is there");
            }
        }
        file.sync_data().expect("the disk is there");
        let rooms = rooms.lock().expect("no panics");
        for one in batch {
            for member in rooms.get(&one.room).into_iter().flatten() {
                let _ = member.send(Arc::clone(&one.text));
            }
        }
    }
}
