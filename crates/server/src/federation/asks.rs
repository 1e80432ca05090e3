//! Questions that an operator has us ask other servers, each with who waits for its answer.

use std::collections::HashMap;

use billow_federation::Ids;
use billow_xmpp::{Domain, Element, Iq, IqKind, Jid};
use tokio::sync::oneshot;

/// Most questions that are open; an operator has few.
const OPEN: usize = 100;

/// What came of a question: the answer, or why none will come.
pub(crate) type Asked = Result<Iq, String>;

/// The open questions.
#[derive(Debug)]
pub(super) struct Asks {
    ids: Ids,
    open: HashMap<String, (Jid, oneshot::Sender<Asked>)>,
}

impl Asks {
    pub(super) fn new(ids: Ids) -> Self {
        Self {
            ids,
            open: HashMap::new(),
        }
    }

    /// Opens a question; the stanza to send. `None`: too many are open.
    pub(super) fn open(
        &mut self,
        own: &Jid,
        to: Jid,
        payload: Element,
        reply: oneshot::Sender<Asked>,
    ) -> Option<Element> {
        self.open.retain(|_, (_, reply)| !reply.is_closed());
        if self.open.len() >= OPEN {
            return None;
        }
        let iq = Iq::get(own.clone(), to.clone(), self.ids.fresh(), payload);
        self.open.insert(iq.id.clone(), (to, reply));
        Some(iq.to_element())
    }

    /// Whether this answer is one to an open question; then it is given.
    pub(super) fn take(&mut self, iq: &Iq) -> bool {
        let is_answer = matches!(iq.kind, IqKind::Result(_) | IqKind::Error(_));
        if !is_answer || self.open.get(&iq.id).is_none_or(|(to, _)| *to != iq.from) {
            return false;
        }
        if let Some((_, reply)) = self.open.remove(&iq.id) {
            // Who asked may be gone.
            let _ = reply.send(Ok(iq.clone()));
        }
        true
    }

    /// Nothing gets to a peer now.
    pub(super) fn give_up(&mut self, peer: &Domain, reason: &str) {
        let at_peer = |to: &Jid| Domain::of(to).is_ok_and(|domain| domain == *peer);
        for (_, (_, reply)) in self.open.extract_if(|_, (to, _)| at_peer(to)) {
            let _ = reply.send(Err(reason.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_asked_answers_and_only_once() {
        let jid = |text: &str| Jid::new(text).unwrap();
        let mut asks = Asks::new(Ids::new([1; 32]));
        let (reply, mut told) = oneshot::channel();
        let payload = billow_xmpp::ping::request();
        let sent = asks.open(&jid("initech.lab"), jid("acme.lab"), payload, reply).unwrap();
        let asked = Iq::get(
            jid("initech.lab"),
            jid("acme.lab"),
            sent.attr("id").unwrap(),
            billow_xmpp::ping::request(),
        );
        let mut forged = asked.result(None);
        forged.from = jid("evil.lab");
        assert!(!asks.take(&forged) && !asks.take(&asked));
        assert!(told.try_recv().is_err());
        assert!(asks.take(&asked.result(None)) && !asks.take(&asked.result(None)));
        assert!(told.try_recv().unwrap().is_ok());
        let (reply, mut told) = oneshot::channel();
        asks.open(
            &jid("initech.lab"),
            jid("acme.lab"),
            billow_xmpp::ping::request(),
            reply,
        );
        asks.give_up(&"acme.lab".parse().unwrap(), "down");
        assert_eq!(told.try_recv().unwrap(), Err("down".to_owned()));
    }
}
