//! What the fuzz target of streams holds to, on seeded bytes, so that no fuzzer is needed to run it.

#[path = "../../../fuzz/src/stream.rs"]
#[allow(unreachable_pub, reason = "public for the fuzz target")]
mod stream;

use stream::any_stream;

const SESSION: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
    xmlns:stream='http://etherx.jabber.org/streams' from='a.lab' to='b.lab' version='1.0'>\r\n\
    <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
    <stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
    xmlns:stream='http://etherx.jabber.org/streams' from='a.lab' to='b.lab' version='1.0'>\
    <db:result from='a.lab' to='b.lab'>abc</db:result><db:verify from='a.lab' to='b.lab' id='1'>abc</db:verify>\
    <message from='a.lab' to='b.lab' xml:lang='en'><x:a xmlns:x='u' x:b='&#13;&lt;\u{e9}'>1<![CDATA[<\r]]>&#13;</x:a></message>\
    <iq from='a.lab' to='b.lab' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq><handshake/>";

#[test]
fn a_session_cut_short_or_with_any_bit_flipped_breaks_nothing() {
    let bytes = SESSION.as_bytes();
    let mut events = 0;
    for length in 0..=bytes.len() {
        events += any_stream(&bytes[..length]);
    }
    let mut flipped = bytes.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            events += any_stream(&flipped);
            flipped[at] ^= 1 << bit;
        }
    }
    assert!(events > bytes.len(), "{events}");
}

#[test]
fn a_session_with_its_parts_shuffled_breaks_nothing() {
    let parts: Vec<&str> = SESSION.split_inclusive(['>', '\'', ' ']).collect();
    let cases = std::env::var("STREAM_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(20_000);
    let mut state = 0x5DEE_CE66_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let mut events = 0;
    for _ in 0..cases {
        let kept = random(parts.len());
        let shuffled: String = parts[..kept].iter().copied().collect();
        let more: String = (0..random(12)).map(|_| parts[random(parts.len())]).collect();
        events += any_stream(format!("{shuffled}{more}").as_bytes());
    }
    println!("FIGURE stream_shuffled cases={cases} events={events} panics=0");
}
