//! Tokens without an end, in a process of their own so that what they take can be measured.

use std::fs;

use billow_xmpp::ns;
use billow_xmpp::parser::Parser;
use billow_xmpp::stream::{Limits, StreamCondition};

const OPEN: &[u8] = b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>";
const HUNDRED_MIB: usize = 100 << 20;

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux says how large a process is");
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number is the resident size") * 4096
}

/// How much is let in of a token that does not end, and how it ends.
fn let_in(start: &[u8], limits: Limits) -> (usize, StreamCondition) {
    let mut parser = Parser::new(ns::SERVER, limits);
    assert!(parser.next(&mut &*OPEN).is_ok());
    let mut fed = start.len();
    let mut end = parser.next(&mut &*start).err();
    let chunk = [b'x'; 16 << 10];
    while end.is_none() && fed < HUNDRED_MIB {
        fed += chunk.len();
        end = parser.next(&mut &chunk[..]).err();
    }
    (fed, end.expect("it ends before it is all in").condition)
}

#[test]
fn b_008_a_token_of_100_mib_is_cut_at_the_limit_and_takes_no_memory() {
    let starts: [&[u8]; 7] = [
        b"<",
        b"<message ",
        b"<message a='",
        b"<message>",
        b"<message><![CDATA[",
        b"<message><a xmlns:",
        b"<message></",
    ];
    for limits in [Limits::BEFORE_AUTH, Limits::AFTER_AUTH] {
        // What the allocator keeps from the first round is no growth.
        let_in(starts[3], limits);
        for start in starts {
            let before = resident();
            let (fed, condition) = let_in(start, limits);
            let rise = resident().saturating_sub(before);
            let shown = String::from_utf8_lossy(start).into_owned();
            assert_eq!(condition, StreamCondition::PolicyViolation, "{shown}");
            assert!(fed <= limits.bytes + (32 << 10), "{shown}: {fed}");
            assert!(rise <= 2 << 20, "{shown}: {rise}");
        }
    }
}
