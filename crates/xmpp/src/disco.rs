//! Service discovery (XEP-0030): the two queries, built and read.

use jid::Jid;
use minidom::Element;

use crate::{element, ns};

/// Most items that are read from an answer; a peer cannot make us look at more.
pub const MAX_ITEMS: usize = 50;
/// Most identities and most features that are read from an answer.
pub const MAX_FEATURES: usize = 200;

/// What an entity is and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    /// What it says that it is.
    pub identities: Vec<Identity>,
    /// The protocols it says that it speaks.
    pub features: Vec<String>,
}

/// One identity of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// For example `collaboration`.
    pub category: String,
    /// For example `apache-wave`.
    pub kind: String,
    /// For people.
    pub name: Option<String>,
}

/// The payload that asks what an entity is.
#[must_use]
pub fn info_request() -> Element {
    element("query", ns::DISCO_INFO).done()
}

/// The payload that asks which items an entity has.
#[must_use]
pub fn items_request() -> Element {
    element("query", ns::DISCO_ITEMS).done()
}

/// Whether a payload asks what we are; a `node` is ignored.
#[must_use]
pub fn is_info(payload: &Element) -> bool {
    payload.is("query", ns::DISCO_INFO)
}

/// Whether a payload asks for our items.
#[must_use]
pub fn is_items(payload: &Element) -> bool {
    payload.is("query", ns::DISCO_ITEMS)
}

impl Info {
    /// Whether a feature is announced.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }

    /// The payload of the answer.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let identities = self.identities.iter().map(|identity| {
            element("identity", ns::DISCO_INFO)
                .attr("category", &identity.category)
                .attr("type", &identity.kind)
                .attr_opt("name", identity.name.as_ref())
        });
        let features = self
            .features
            .iter()
            .map(|feature| element("feature", ns::DISCO_INFO).attr("var", feature));
        element("query", ns::DISCO_INFO)
            .children(identities)
            .children(features)
            .done()
    }

    /// Reads an answer; what is not understood is passed over. `None` if it is no answer at all.
    #[must_use]
    pub fn parse(payload: &Element) -> Option<Self> {
        if !is_info(payload) {
            return None;
        }
        let identities = payload
            .children()
            .filter(|child| child.is("identity", ns::DISCO_INFO))
            .filter_map(|child| {
                let (category, kind) = (child.attr("category")?.to_owned(), child.attr("type")?.to_owned());
                Some(Identity {
                    category,
                    kind,
                    name: child.attr("name").map(str::to_owned),
                })
            })
            .take(MAX_FEATURES)
            .collect();
        let features = payload
            .children()
            .filter(|child| child.is("feature", ns::DISCO_INFO))
            .filter_map(|child| child.attr("var").map(str::to_owned))
            .take(MAX_FEATURES)
            .collect();
        Some(Self { identities, features })
    }
}

/// The payload of the answer to a question for items.
#[must_use]
pub fn items_element(items: &[Jid]) -> Element {
    let items = items
        .iter()
        .map(|jid| element("item", ns::DISCO_ITEMS).attr("jid", jid.as_str()));
    element("query", ns::DISCO_ITEMS).children(items).done()
}

/// Reads the items of an answer: at most [`MAX_ITEMS`], those with a valid address, each once, in order.
/// `None` if it is no answer at all.
#[must_use]
pub fn parse_items(payload: &Element) -> Option<Vec<Jid>> {
    if !is_items(payload) {
        return None;
    }
    let mut found: Vec<Jid> = Vec::new();
    for item in payload
        .children()
        .filter(|child| child.is("item", ns::DISCO_ITEMS))
        .take(MAX_ITEMS)
    {
        if let Some(jid) = item.attr("jid").and_then(|text| Jid::new(text).ok())
            && !found.contains(&jid)
        {
            found.push(jid);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back_as_it_was_written() {
        let info = Info {
            identities: vec![Identity {
                category: "collaboration".into(),
                kind: "apache-wave".into(),
                name: Some("Wave".into()),
            }],
            features: vec!["http://waveprotocol.org/protocol/0.2/waveserver".into()],
        };
        assert_eq!(Info::parse(&info.to_element()), Some(info));
        let items = vec![Jid::new("wave.acme.lab").unwrap()];
        assert_eq!(parse_items(&items_element(&items)), Some(items));
    }

    #[test]
    fn b_081_a_flood_of_items_is_cut() {
        let items: Vec<Jid> = (0..10_000)
            .map(|n| Jid::new(&format!("i{n}.acme.lab")).unwrap())
            .collect();
        assert_eq!(parse_items(&items_element(&items)).unwrap().len(), MAX_ITEMS);
    }
}
