//! One machine, one socket: the loop between them.
//!
//! [`Driver::settle`] does what the machine asks until it asks nothing more; [`Driver::hear`] waits for the peer or the
//! clock and tells the machine. What the machine wants written between two waits goes out in one write.

use std::time::{Duration, Instant};

use billow_xmpp::Domain;
use billow_xmpp::s2s::{Event, Machine, Output, Over};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::Fingerprint;
use crate::tls::{Shown, Tls, fingerprint_of};

/// How long the TLS handshake may take.
pub(crate) const TLS_DEADLINE: Duration = Duration::from_secs(15);
/// How long a peer may leave what we write unread.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// How long the good-bye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection, before and after its handshake.
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Closed,
}

/// A machine with its connection.
pub(crate) struct Driver<'a, M> {
    pub(crate) machine: M,
    socket: Socket,
    /// `None`: the connection stays plain.
    tls: Option<&'a Tls>,
    /// The peer that we dialled; `None` if the peer dialled us.
    dialled: Option<Domain>,
    tls_deadline: Duration,
    buffer: Box<[u8; 16 << 10]>,
    /// Why the connection failed, where the machine only knows that it did.
    failure: Option<String>,
    /// What the handshake showed.
    shown: Option<Shown>,
}

/// What [`Driver::settle`] brought.
pub(crate) struct Settled {
    /// What happened, without the end.
    pub(crate) events: Vec<Event>,
    /// The stream is over, and why.
    pub(crate) over: Option<String>,
    /// The same in the machine's own terms.
    pub(crate) ended: Option<Over>,
}

impl<'a, M: Machine> Driver<'a, M> {
    pub(crate) fn new(machine: M, socket: TcpStream, tls: &'a Tls, dialled: Option<Domain>) -> Self {
        let buffer = Box::new([0; 16 << 10]);
        Self {
            machine,
            socket: Socket::Plain(socket),
            tls: Some(tls),
            dialled,
            tls_deadline: TLS_DEADLINE,
            buffer,
            failure: None,
            shown: None,
        }
    }

    /// A machine that asks for no TLS.
    pub(crate) fn plain(machine: M, socket: TcpStream) -> Self {
        Self {
            machine,
            socket: Socket::Plain(socket),
            tls: None,
            dialled: None,
            tls_deadline: TLS_DEADLINE,
            buffer: Box::new([0; 16 << 10]),
            failure: None,
            shown: None,
        }
    }

    /// The same with another time for the TLS handshake.
    pub(crate) fn with_tls_deadline(mut self, deadline: Duration) -> Self {
        self.tls_deadline = deadline;
        self
    }

    /// What the handshake showed; kept when the connection is gone.
    pub(crate) fn shown(&self) -> Option<&Shown> {
        self.shown.as_ref()
    }

    /// By what the peer's key is known.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        match &self.socket {
            Socket::Tls(stream) => fingerprint_of(stream),
            Socket::Plain(_) | Socket::Closed => None,
        }
    }

    /// The version of TLS that was agreed on, as people call it.
    pub(crate) fn tls_version(&self) -> String {
        let version = match &self.socket {
            Socket::Tls(stream) => stream.get_ref().1.protocol_version(),
            Socket::Plain(_) | Socket::Closed => None,
        };
        match version {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// Whether the certificate of the peer is good for a domain.
    pub(crate) fn is_certified(&self, domain: &Domain) -> bool {
        match &self.socket {
            Socket::Tls(stream) => {
                let certificate = self.tls.and_then(|tls| tls.certificate_of(stream));
                certificate.is_some_and(|certificate| certificate.check(domain).is_ok())
            }
            Socket::Plain(_) | Socket::Closed => false,
        }
    }

    /// Does what the machine asks until it asks nothing more.
    pub(crate) async fn settle(&mut self) -> Settled {
        let mut settled = Settled {
            events: Vec::new(),
            over: None,
            ended: None,
        };
        let mut unwritten = Vec::new();
        loop {
            match self.machine.poll() {
                Some(Output::Write(bytes)) if unwritten.is_empty() => unwritten = bytes,
                Some(Output::Write(bytes)) => unwritten.extend_from_slice(&bytes),
                Some(Output::Event(Event::Over(over))) => {
                    settled.over = Some(self.reason(&over));
                    settled.ended = Some(over);
                }
                Some(Output::Event(event)) => settled.events.push(event),
                Some(Output::StartTls { local, direct }) => {
                    if self.write(std::mem::take(&mut unwritten)).await {
                        self.start_tls(local.as_ref(), direct).await;
                    }
                }
                Some(Output::Close) => {
                    if self.write(std::mem::take(&mut unwritten)).await {
                        self.socket.shut_down().await;
                    }
                    self.socket = Socket::Closed;
                }
                // A write that fails makes the machine ask for more: the end.
                None if !unwritten.is_empty() => {
                    self.write(std::mem::take(&mut unwritten)).await;
                }
                None => return settled,
            }
        }
    }

    /// Waits until the peer says something or the machine's time has come. May be dropped at any point.
    pub(crate) async fn hear(&mut self) {
        let deadline = self.machine.deadline();
        let sleep = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.socket.read(&mut self.buffer[..]) => match read {
                Ok(0) => self.machine.handle_eof(Instant::now()),
                Ok(count) => self.machine.handle_bytes(Instant::now(), &self.buffer[..count]),
                Err(error) => self.fail(format!("the connection was lost: {error}")),
            },
            () = sleep => self.machine.handle_timeout(Instant::now()),
        }
    }

    /// Writes, unless the socket is closed; whether it went well.
    async fn write(&mut self, bytes: Vec<u8>) -> bool {
        match tokio::time::timeout(WRITE_STALL, self.socket.write(&bytes)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => self.fail(format!("the connection was lost: {error}")),
            Err(_) => self.fail(format!("the other server read nothing for {} s", WRITE_STALL.as_secs())),
        }
        false
    }

    async fn start_tls(&mut self, local: Option<&Domain>, direct: bool) {
        let Socket::Plain(plain) = std::mem::replace(&mut self.socket, Socket::Closed) else {
            return self.fail("TLS was asked for twice".to_owned());
        };
        let Some(tls) = self.tls else {
            return self.fail("TLS was asked for where there is none".to_owned());
        };
        let handshake = async {
            match (&self.dialled, local) {
                (Some(peer), Some(local)) => tls.connect(local, peer, plain, direct).await,
                (Some(_), None) => Err("nobody of ours wants this stream".to_owned()),
                (None, local) => tls.accept(local, plain, direct).await,
            }
        };
        match tokio::time::timeout(self.tls_deadline, handshake).await {
            Ok(Ok(stream)) => {
                let certificate = tls.certificate_of(&stream);
                self.shown = Some(Shown::of(&stream));
                self.socket = Socket::Tls(Box::new(stream));
                self.machine.handle_tls(Instant::now(), certificate);
            }
            Ok(Err(reason)) => self.fail(reason),
            Err(_) => self.fail(format!("TLS was not agreed on within {:?}", self.tls_deadline)),
        }
    }

    /// The connection is of no more use.
    fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(reason);
        self.socket = Socket::Closed;
        self.machine.handle_eof(Instant::now());
    }

    fn reason(&self, over: &Over) -> String {
        match (over, &self.failure) {
            (Over::Lost, Some(failure)) => failure.clone(),
            _ => over.to_string(),
        }
    }
}

impl Socket {
    /// Reads what there is; a closed socket has nothing, ever.
    async fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
            Self::Closed => Ok(0),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Closed => Ok(()),
        }
    }

    async fn shut_down(&mut self) {
        let goodbye = async {
            match self {
                Self::Plain(stream) => stream.shutdown().await,
                Self::Tls(stream) => stream.shutdown().await,
                Self::Closed => Ok(()),
            }
        };
        // Whether the peer hears the end or not, it is the end.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}
