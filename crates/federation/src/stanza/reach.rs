//! "Can you reach me?": a Billow server asks another to open a connection to it, at the places that its DNS records name,
//! and to tell what came of it. No address is asked for, so nobody can be sent anywhere else.

use std::net::SocketAddr;

use billow_xmpp::{Element, element};

use super::read;
use crate::error::FederationError;
use crate::ns;

const MALFORMED: &str = "Malformed reach";
/// Most places that are told and read.
const MOST: usize = 40;
/// Longest reason, in characters.
const LONGEST: usize = 300;

/// What came of the try at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The place.
    pub address: SocketAddr,
    /// Whether the connection began with TLS (XEP-0368).
    pub direct_tls: bool,
    /// Whether a stream came up, and if not, why not in words.
    pub outcome: Result<(), String>,
}

/// The payload that asks.
#[must_use]
pub fn request() -> Element {
    element("reach", ns::REACH).done()
}

/// Whether the payload of an `iq` of type `get` asks.
#[must_use]
pub fn is_request(payload: &Element) -> bool {
    payload.is("reach", ns::REACH)
}

/// The payload of the answer: each place, or why there is none.
#[must_use]
pub fn response(tried: &Result<Vec<Tried>, String>) -> Element {
    let cut = |reason: &String| {
        reason
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST)
            .collect::<String>()
    };
    let (places, nowhere) = match tried {
        Ok(places) => (places.as_slice(), None),
        Err(reason) => (&[][..], Some(cut(reason))),
    };
    let places = places.iter().take(MOST).map(|place| {
        element("place", ns::REACH)
            .attr("address", place.address.to_string())
            .attr_opt("direct-tls", place.direct_tls.then_some("true"))
            .attr_opt("failed", place.outcome.as_ref().err().map(cut))
    });
    element("reach", ns::REACH)
        .attr_opt("nowhere", nowhere)
        .children(places)
        .done()
}

/// Reads an answer.
pub fn parse(reach: &Element) -> Result<Result<Vec<Tried>, String>, FederationError> {
    if !is_request(reach) {
        return Err(FederationError::bad_request(format!("{MALFORMED}: expected <reach/>")));
    }
    let words = |text: &str| {
        text.chars()
            .filter(|c| !c.is_control())
            .take(LONGEST)
            .collect::<String>()
    };
    if let Some(nowhere) = reach.attr("nowhere") {
        return Ok(Err(words(nowhere)));
    }
    let places = reach.children().filter(|child| child.name() == "place").take(MOST);
    let read = places.map(|place| {
        let address = read::attr(place, "address", MALFORMED)?;
        let address = address.parse();
        let address =
            address.map_err(|_| FederationError::bad_request(format!("{MALFORMED}: expected address and port")))?;
        Ok(Tried {
            address,
            direct_tls: place.attr("direct-tls") == Some("true"),
            outcome: place.attr("failed").map_or(Ok(()), |reason| Err(words(reason))),
        })
    });
    read.collect::<Result<_, _>>().map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back_as_it_was_written() {
        let tried = vec![
            Tried {
                address: "192.0.2.1:5269".parse().unwrap(),
                direct_tls: false,
                outcome: Ok(()),
            },
            Tried {
                address: "[2001:db8::1]:443".parse().unwrap(),
                direct_tls: true,
                outcome: Err("cannot connect".into()),
            },
        ];
        assert_eq!(parse(&response(&Ok(tried.clone()))), Ok(Ok(tried)));
        let nowhere = Err("no DNS record".to_owned());
        assert_eq!(parse(&response(&nowhere)), Ok(nowhere));
    }

    #[test]
    fn bad_answers_are_errors_and_long_ones_are_cut() {
        let place = |attrs: &str| format!("<reach xmlns='urn:billow:reach:0'><place {attrs}/></reach>");
        for bad in ["", "address='x'", "address='acme.lab:5269'", "address='192.0.2.1'"] {
            assert!(parse(&place(bad).parse().unwrap()).is_err(), "{bad}");
        }
        assert!(parse(&"<ping xmlns='urn:xmpp:ping'/>".parse().unwrap()).is_err());
        let many = "<place address='192.0.2.1:5269'/>".repeat(1000);
        let many = format!("<reach xmlns='urn:billow:reach:0'>{many}</reach>");
        assert_eq!(parse(&many.parse().unwrap()).unwrap().unwrap().len(), MOST);
        let long = response(&Err("x".repeat(10_000)));
        assert_eq!(long.attr("nowhere").unwrap().len(), LONGEST);
    }
}
