//! Other servers as a test likes them: real streams and real certificates, and answers by the part that is played.

use std::net::SocketAddr;

use billow_net::{DialbackPolicy, LocalDomain, Net, NetConfig, NetEvent, NetHandle, ResolverChoice, TlsRoots};
use billow_xmpp::{Domain, Iq, IqKind, Stanza, StanzaError, about, disco, ping};

use super::papers::{Paper, Wish};
use super::site::root;

/// The part that a server plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// An XMPP server that knows nothing of Wave.
    OnlyChat,
    /// It takes everything and answers nothing.
    Mute,
    /// A wave server whose clock is so many milliseconds ahead.
    Clock(i64),
}

/// A running one; ends when it is dropped.
pub(crate) struct Actor {
    pub(crate) net: NetHandle,
    task: tokio::task::JoinHandle<()>,
}

impl Actor {
    /// Plays a part as the server of a domain.
    pub(crate) async fn start(domain: &str, part: Part, nameserver: SocketAddr) -> Self {
        Self::with(domain, part, nameserver, &Wish::of(&[domain], Some(root())).make()).await
    }

    /// With this certificate.
    pub(crate) async fn with(domain: &str, part: Part, nameserver: SocketAddr, paper: &Paper) -> Self {
        let local: Domain = domain.parse().unwrap();
        let config = NetConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            domains: vec![LocalDomain {
                domain: local.clone(),
                chain_pem: paper.pem(),
                key_pem: paper.key_pem(),
            }],
            roots: TlsRoots {
                extra_pem: root().pem(),
                ..TlsRoots::default()
            },
            resolver: ResolverChoice::Servers(vec![nameserver]),
            allow_private_addresses: true,
            dialback: DialbackPolicy::Always,
            ..NetConfig::default()
        };
        let (net, mut events) = Net::start(config).await.unwrap();
        let speaker = net.clone();
        let task = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let NetEvent::Stanza { peer, element, .. } = event else {
                    continue;
                };
                if let (Ok(Stanza::Iq(iq)), true) = (Stanza::parse(&element), part != Part::Mute)
                    && iq.is_request()
                {
                    speaker.send(&local, &peer, play(part, &iq).to_element()).unwrap();
                }
            }
        });
        Self { net, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.net.listening()[0]
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.task.abort();
        let net = self.net.clone();
        tokio::spawn(async move { net.stop().await });
    }
}

fn play(part: Part, iq: &Iq) -> Iq {
    let IqKind::Get(payload) = &iq.kind else {
        return iq.error(StanzaError::new(billow_xmpp::Condition::NotAllowed, "no"));
    };
    if disco::is_info(payload) {
        let (category, kind) = match part {
            Part::Clock(_) => ("collaboration", "apache-wave"),
            Part::OnlyChat | Part::Mute => ("server", "im"),
        };
        let wave = matches!(part, Part::Clock(_)).then(|| "http://waveprotocol.org/protocol/0.2/waveserver".to_owned());
        let info = disco::Info {
            identities: vec![disco::Identity {
                category: category.to_owned(),
                kind: kind.to_owned(),
                name: None,
            }],
            features: wave.into_iter().collect(),
        };
        return iq.result(Some(info.to_element()));
    }
    if disco::is_items(payload) {
        return iq.result(Some(disco::items_element(&[])));
    }
    if ping::is_request(payload) {
        return iq.result(None);
    }
    if let (Part::Clock(ahead), true) = (part, about::is_time_request(payload)) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = i64::try_from(now.unwrap().as_millis()).unwrap();
        return iq.result(Some(about::time_answer(now + ahead)));
    }
    iq.error(StanzaError::new(
        billow_xmpp::Condition::ServiceUnavailable,
        "not known here",
    ))
}
