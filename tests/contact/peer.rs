//! A peer in this process: an XMPP server of some domains that answers what each case needs, and remembers what it heard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use billow_federation::discovery::own_info;
use billow_net::{DialbackPolicy, LocalDomain, Net, NetConfig, NetEvent, NetHandle, ResolverChoice, TlsRoots};
use billow_xmpp::{Element, Iq, IqKind, Jid, Message, Stanza, StanzaError, disco, ping, receipts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::world::World;

/// What a domain answers.
#[derive(Clone)]
pub(crate) struct Role {
    domain: &'static str,
    others: &'static [&'static str],
    items: Option<&'static [&'static str]>,
    is_wave: bool,
}

impl Role {
    /// A wave service, of another make than ours.
    pub(crate) fn wave(domain: &'static str) -> Self {
        Self {
            domain,
            others: &[],
            items: Some(&[]),
            is_wave: true,
        }
    }

    /// An XMPP server that names these services.
    pub(crate) fn names(domain: &'static str, items: &'static [&'static str]) -> Self {
        Self {
            items: Some(items),
            is_wave: false,
            ..Self::wave(domain)
        }
    }

    /// An XMPP server that knows nothing of discovery.
    pub(crate) fn silent(domain: &'static str) -> Self {
        Self {
            items: None,
            is_wave: false,
            ..Self::wave(domain)
        }
    }

    /// Its certificate names these domains too.
    pub(crate) fn also(mut self, others: &'static [&'static str]) -> Self {
        self.others = others;
        self
    }

    fn answer(&self, stanza: Stanza) -> Option<Element> {
        match stanza {
            Stanza::Iq(iq) => self.answer_iq(&iq),
            // Whatever asks for a receipt gets one, like the reference does it.
            Stanza::Message(message)
                if self.is_wave && message.payload("received", billow_xmpp::ns::RECEIPTS).is_none() =>
            {
                receipts::receipt_for(&message).map(|receipt: Message| receipt.to_element())
            }
            _ => None,
        }
    }

    fn answer_iq(&self, iq: &Iq) -> Option<Element> {
        let (IqKind::Get(payload) | IqKind::Set(payload)) = &iq.kind else {
            return None;
        };
        let none = || {
            let condition = billow_xmpp::Condition::ServiceUnavailable;
            iq.error(StanzaError::new(condition, "nothing of that kind is here"))
                .to_element()
        };
        let Some(items) = self.items else { return Some(none()) };
        let answer = if disco::is_items(payload) {
            let items: Vec<Jid> = items.iter().map(|item| Jid::new(item).unwrap()).collect();
            disco::items_element(&items)
        } else if disco::is_info(payload) && self.is_wave {
            // As the reference's predecessors announced it: by its identity alone.
            let mut info = own_info("a wave server");
            info.identities.retain(|identity| identity.kind == "google-wave");
            info.features.clear();
            info.to_element()
        } else if disco::is_info(payload) {
            disco::Info::default().to_element()
        } else if ping::is_request(payload) && self.is_wave {
            return Some(iq.result(None).to_element());
        } else {
            return Some(none());
        };
        Some(iq.result(Some(answer)).to_element())
    }
}

/// A running peer.
pub(crate) struct Peer {
    pub(crate) at: SocketAddr,
    net: NetHandle,
    heard: Arc<Mutex<Vec<String>>>,
    streams: Arc<Mutex<usize>>,
}

impl Peer {
    /// Listens at an address for all of these domains.
    pub(crate) async fn start(world: &World, listen: &str, roles: Vec<Role>) -> Self {
        let domains = roles.iter().map(|role| {
            let issued = world.issue(role.domain, role.others);
            LocalDomain {
                domain: role.domain.parse().unwrap(),
                chain_pem: issued.chain_pem,
                key_pem: issued.key_pem,
            }
        });
        let config = NetConfig {
            listen: vec![listen.parse().unwrap()],
            domains: domains.collect(),
            roots: TlsRoots {
                extra_pem: world.roots_pem(),
                ..TlsRoots::default()
            },
            resolver: ResolverChoice::Servers(vec![world.dns.address()]),
            allow_private_addresses: true,
            dialback: DialbackPolicy::Never,
            ..NetConfig::default()
        };
        let (net, mut events) = Net::start(config).await.unwrap();
        let (heard, streams) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<usize>>::default());
        let roles: BTreeMap<String, Role> = roles.into_iter().map(|role| (role.domain.to_owned(), role)).collect();
        let (to, noted, counted) = (net.clone(), heard.clone(), streams.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    NetEvent::Heard { .. } => *counted.lock().unwrap() += 1,
                    NetEvent::Stanza { local, peer, element } => {
                        noted.lock().unwrap().push(String::from(&element));
                        let answer = Stanza::parse(&element)
                            .ok()
                            .and_then(|stanza| roles[local.as_str()].answer(stanza));
                        if let Some(answer) = answer {
                            // The other side may be gone.
                            let _ = to.send(&local, &peer, answer);
                        }
                    }
                    _ => {}
                }
            }
        });
        Self {
            at: net.listening()[0],
            net,
            heard,
            streams,
        }
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Whether some stanza came with these words in it.
    pub(crate) fn has_heard(&self, words: &str) -> bool {
        self.heard.lock().unwrap().iter().any(|stanza| stanza.contains(words))
    }

    /// How many streams were opened to it.
    pub(crate) fn streams(&self) -> usize {
        *self.streams.lock().unwrap()
    }

    pub(crate) async fn end(&self) {
        self.net.stop().await;
    }
}

/// A server that offers no TLS.
pub(crate) struct Plain {
    pub(crate) at: SocketAddr,
    heard: Arc<Mutex<String>>,
}

impl Plain {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<String>>::default();
        let noted = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let noted = noted.clone();
                tokio::spawn(async move {
                    let hello = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                        id='x' version='1.0' from='acme.lab'><stream:features/>";
                    let mut said = false;
                    let mut bytes = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                        noted
                            .lock()
                            .unwrap()
                            .push_str(&String::from_utf8_lossy(&bytes[..count]));
                        if !std::mem::replace(&mut said, true) && stream.write_all(hello.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { at, heard }
    }

    pub(crate) fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}
