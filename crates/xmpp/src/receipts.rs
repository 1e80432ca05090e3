//! Message receipts (XEP-0184), in the form that wave servers use: the receipt has the id of the message it
//! acknowledges, and its `received` element has none.

use minidom::Element;

use crate::{Message, element, ns};

/// The child that asks for a receipt.
#[must_use]
pub fn request() -> Element {
    element("request", ns::RECEIPTS).done()
}

/// Whether a message asks for a receipt.
#[must_use]
pub fn is_requested(message: &Message) -> bool {
    message.payload("request", ns::RECEIPTS).is_some()
}

/// The receipt for a message. A message without an id cannot be acknowledged.
#[must_use]
pub fn receipt_for(message: &Message) -> Option<Message> {
    let id = message.id.clone()?;
    // COMPAT(wiab): correlation is by the stanza's id; a `received` with an `id` of its own is not understood everywhere.
    Some(Message::new(message.to.clone(), message.from.clone(), id).with(element("received", ns::RECEIPTS)))
}

/// The id of the message that this one acknowledges, if it is a receipt: the `id` of the `received` element as
/// XEP-0184 has it, else the id of the stanza.
#[must_use]
pub fn acknowledged(message: &Message) -> Option<&str> {
    let received: &Element = message.payload("received", ns::RECEIPTS)?;
    received
        .attr("id")
        .filter(|id| !id.is_empty())
        .or(message.id.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stanza;

    #[test]
    fn a_receipt_without_an_id_acknowledges_by_the_id_of_its_stanza() {
        let xml = "<message xmlns='jabber:client' id='7' to='wave.a.lab' from='wave.b.lab'>\
                   <received xmlns='urn:xmpp:receipts'/></message>";
        let Ok(Stanza::Message(message)) = Stanza::parse(&xml.parse().unwrap()) else {
            panic!("a message")
        };
        assert_eq!(acknowledged(&message), Some("7"));
    }

    #[test]
    fn the_receipt_goes_back_with_the_same_id() {
        let asked = Message::new("a.lab".parse().unwrap(), "b.lab".parse().unwrap(), "x1").with(request());
        assert!(is_requested(&asked));
        let receipt = receipt_for(&asked).unwrap();
        assert_eq!((receipt.to.as_str(), receipt.from.as_str()), ("a.lab", "b.lab"));
        assert_eq!(acknowledged(&receipt), Some("x1"));
    }
}
