//! A server that lies, with a certificate that is in order: each lie is refused with its reason and counted, nothing of it is
//! stored, and the wavelet goes on.

use billow_federation::stanza::{signer as signers, submit, update};
use billow_model::{Delta, HashedVersion, Timestamp, WaveletName, WaveletOp};
use billow_net::{NetEvent, NetHandle};
use billow_signing::Signer;
use billow_wire::exchange::SubmitRequest;
use billow_wire::{AppliedDelta, Encoded, Signature, SignedDelta};
use billow_xmpp::{Element, Iq, IqKind, Stanza};
use tokio::sync::mpsc;

use crate::node::{Lab, PATIENCE, Person, answer, eventually, insert, name, text};

struct Liar {
    domain: billow_xmpp::Domain,
    net: NetHandle,
    events: mpsc::Receiver<NetEvent>,
    signer: Signer,
    sent: u64,
}

impl Liar {
    async fn start(lab: &Lab) -> Self {
        let (net, events, signer) = lab.stranger("evil.lab").await;
        Self {
            domain: "evil.lab".parse().unwrap(),
            net,
            events,
            signer,
            sent: 0,
        }
    }

    fn id(&mut self) -> String {
        self.sent += 1;
        format!("lie {}", self.sent)
    }

    /// Sends a request or an update and gives the reason for which it is refused.
    async fn refused(
        &mut self,
        to: &str,
        make: impl FnOnce(billow_xmpp::Jid, billow_xmpp::Jid, String) -> Element,
    ) -> String {
        match self.ask(to, make).await {
            Ok(answer) => panic!("taken: {answer:?}"),
            Err(reason) => reason,
        }
    }

    async fn ask(
        &mut self,
        to: &str,
        make: impl FnOnce(billow_xmpp::Jid, billow_xmpp::Jid, String) -> Element,
    ) -> Result<Element, String> {
        let (to, id): (billow_xmpp::Domain, _) = (to.parse().unwrap(), self.id());
        self.net
            .send(&self.domain, &to, make(self.domain.to_jid(), to.to_jid(), id.clone()))
            .unwrap();
        let answer = async {
            loop {
                let NetEvent::Stanza { element, .. } = self.events.recv().await.unwrap() else {
                    continue;
                };
                if element.attr("id") == Some(&id) {
                    return element;
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer");
        match Stanza::parse(&answer).unwrap() {
            Stanza::Iq(Iq {
                kind: IqKind::Error(error),
                ..
            }) => Err(error.text.unwrap_or_default()),
            Stanza::Message(message) if answer.attr("type") == Some("error") => {
                let billow_xmpp::MessageKind::Error(error) = message.kind else {
                    panic!("an error")
                };
                Err(error.text.unwrap_or_default())
            }
            _ => Ok(answer),
        }
    }

    async fn submits(&mut self, wavelet: &WaveletName, delta: Encoded<SignedDelta>) -> String {
        let request = SubmitRequest {
            name: wavelet.clone(),
            delta,
        };
        self.refused("initech.lab", |own, to, id| {
            Iq::set(own, to, id, submit::request(&request)).to_element()
        })
        .await
    }

    async fn updates(&mut self, wavelet: &WaveletName, deltas: &[bytes::Bytes]) -> String {
        let outgoing = update::Outgoing {
            name: wavelet,
            deltas,
            commit: None,
            digest: None,
        };
        self.refused("acme.lab", |own, to, id| {
            update::message(own, to, id, &outgoing).to_element()
        })
        .await
    }
}

fn delta(author: &str, target: HashedVersion, op: WaveletOp) -> Encoded<Delta> {
    Encoded::new(Delta {
        target,
        author: author.parse().unwrap(),
        ops: vec![op],
        address_path: Vec::new(),
    })
}

fn applied(signed: Encoded<SignedDelta>) -> bytes::Bytes {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let timestamp = Timestamp(now.as_millis() as i64);
    let applied = AppliedDelta {
        signed,
        applied_at: None,
        operations_applied: 1,
        timestamp,
    };
    Encoded::new(applied).bytes().clone()
}

/// The same with another byte in its operations.
fn one_byte_changed(signed: &SignedDelta) -> Encoded<SignedDelta> {
    let bytes = signed.delta.bytes();
    let changed = |at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at].is_ascii_lowercase().then(|| bytes[at] ^= 0x20)?;
        Encoded::decode(bytes.into()).ok()
    };
    Encoded::new(SignedDelta {
        delta: (0..bytes.len()).rev().find_map(changed).unwrap(),
        signatures: signed.signatures.clone(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_refused_and_counted_and_change_nothing() {
    let lab = Lab::start().await;
    let (mut alice, mut bob) = (Person::new("alice@initech.lab"), Person::new("bob@acme.lab"));
    let wavelet = name("a");
    let ours = alice.begin(&lab.initech, &wavelet, &["bob@acme.lab"]).await;
    let theirs = eventually("the wavelet arrives", async || {
        lab.acme.wavelets().open(&wavelet).await.unwrap()
    })
    .await;
    answer(bob.type_at_end(&theirs, "truth").await).await.unwrap();
    let head = ours.read_sealed(|_, sealed| sealed.clone()).await.unwrap();
    let mut liar = Liar::start(&lab).await;
    let lie = || insert("truth", 0, "lie");
    let refused = |node: &crate::node::Node, kind| node.metrics.value("refused", kind);

    // An unknown signer is told to introduce itself; then it is known, and still not a participant.
    let mallory = liar
        .signer
        .sign(delta("mallory@evil.lab", head.clone(), lie()))
        .unwrap();
    assert_eq!(liar.submits(&wavelet, mallory.clone()).await, "Unknown signer");
    let info = liar.signer.info().clone();
    liar.ask("initech.lab", |own, to, id| {
        Iq::set(own, to, id, signers::post(&info)).to_element()
    })
    .await
    .unwrap();
    let reason = liar.submits(&wavelet, mallory.clone()).await;
    assert!(
        reason.starts_with("mallory@evil.lab is not a participant of"),
        "{reason}"
    );
    assert_eq!(refused(&lab.initech, "not a participant"), 1);

    let reason = liar.submits(&wavelet, one_byte_changed(&mallory)).await;
    assert!(reason.starts_with("Remote verification failed"), "{reason}");
    assert_eq!(refused(&lab.initech, "signature"), 1);

    // Somebody else's user, with a signature of its own.
    let forged = Encoded::new(SignedDelta {
        delta: delta("bob@acme.lab", head.clone(), lie()),
        signatures: vec![Signature {
            bytes: mallory.signatures[0].bytes.clone(),
            signer: liar.signer.id().clone(),
        }],
    });
    let reason = liar.submits(&wavelet, forged.clone()).await;
    assert!(reason.starts_with("Remote verification failed"), "{reason}");
    assert_eq!(refused(&lab.initech, "another domain's user"), 1);

    // An update of a wavelet that somebody else hosts.
    let reason = liar.updates(&wavelet, &[applied(mallory.clone())]).await;
    assert!(reason.contains("not known to speak for initech.lab"), "{reason}");
    assert_eq!(refused(&lab.acme, "not the host"), 1);

    // Wavelets of its own that add bob: with a changed byte, and in alice's name.
    let own: WaveletName = "evil.lab/w+x/~/conv+root".parse().unwrap();
    let add_bob = WaveletOp::AddParticipant("bob@acme.lab".parse().unwrap());
    let mut changed = liar
        .signer
        .sign(delta("lie@evil.lab", HashedVersion::zero(&own), add_bob.clone()))
        .unwrap();
    changed = one_byte_changed(&changed);
    let in_alices_name = Encoded::new(SignedDelta {
        delta: delta("alice@initech.lab", HashedVersion::zero(&own), add_bob),
        signatures: changed.signatures.clone(),
    });
    for (bad, count) in [(changed, 1), (in_alices_name, 2)] {
        // Its signer is asked for, and the liar gives it.
        let (net, domain, info) = (liar.net.clone(), liar.domain.clone(), info.clone());
        let outgoing = [applied(bad)];
        let message = {
            let update = update::Outgoing {
                name: &own,
                deltas: &outgoing,
                commit: None,
                digest: None,
            };
            let acme: billow_xmpp::Domain = "acme.lab".parse().unwrap();
            (
                acme.clone(),
                update::message(domain.to_jid(), acme.to_jid(), liar.id(), &update).to_element(),
            )
        };
        net.send(&domain, &message.0, message.1).unwrap();
        tokio::time::timeout(PATIENCE, async {
            while refused(&lab.acme, "signature") < count {
                let Ok(Some(event)) =
                    tokio::time::timeout(std::time::Duration::from_millis(20), liar.events.recv()).await
                else {
                    continue;
                };
                let NetEvent::Stanza { peer, element, .. } = event else {
                    continue;
                };
                let Ok(Stanza::Iq(iq)) = Stanza::parse(&element) else {
                    continue;
                };
                if let IqKind::Get(payload) = &iq.kind {
                    let answer = if billow_xmpp::disco::is_info(payload) {
                        billow_federation::discovery::own_info("evil").to_element()
                    } else if billow_xmpp::disco::is_items(payload) {
                        billow_xmpp::disco::items_element(&[])
                    } else {
                        signers::get_response(&info)
                    };
                    net.send(&domain, &peer, iq.result(Some(answer)).to_element()).unwrap();
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("not refused for its signature:\n{}", lab.acme.metrics.text()));
        assert!(
            lab.acme.wavelets().open(&own).await.unwrap().is_none(),
            "nothing is stored"
        );
    }

    // The wavelet goes on.
    assert_eq!(
        (
            text(&ours).await,
            ours.read_sealed(|_, sealed| sealed.clone()).await.unwrap()
        ),
        ("truth".to_owned(), head)
    );
    answer(bob.type_at_end(&theirs, " wins").await).await.unwrap();
    answer(alice.type_at_end(&ours, "!").await).await.unwrap();
    eventually("both go on", async || {
        (text(&theirs).await == "truth wins!").then_some(())
    })
    .await;
    drop((ours, theirs));
    lab.stop().await;
}
