//! What another server answers: what it is, whether it is there, whether it reaches us, and what time it is there.

use std::collections::VecDeque;
use std::time::Duration;

use billow_federation::Ids;
use billow_federation::discovery::{self, Discovery};
use billow_federation::ns;
use billow_federation::stanza::reach;
use billow_xmpp::{Domain, Element, Iq, IqKind, Jid, Stanza, StanzaError, about, disco, ping};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::report::{Finding, Report, Severity, Topic};
use super::voice::{Answer, Voice};
use crate::clock;

/// Clocks that differ by less are as good as equal.
const CLOCK_NOTE: i64 = 5_000;
/// Clocks that differ by more are wrong.
const CLOCK_WRONG: i64 = 60_000;

/// Asks the server of a domain all there is to ask. `places` are ours, for the words.
pub(super) async fn interview(report: &mut Report, voice: &Voice, own: &Domain, peer: &Domain, places: &str) {
    let (found, heard) = match find(voice, own, peer).await {
        Ok(found) => found,
        Err(reason) => return report.add(Finding::new(Severity::Error, Topic::Service, "disco-failed", reason)),
    };
    let jid = match found {
        discovery::Output::Found { service, .. } => {
            let what = format!("the wave service of {peer} is {}", service.jid);
            report.add(Finding::new(Severity::Good, Topic::Service, "disco", what));
            service.jid
        }
        discovery::Output::Failed { reason, .. } if !heard => return silence(report, peer, places, &reason),
        discovery::Output::Failed { reason, .. } => {
            let what = format!("{peer} announces no wave service: {reason}");
            let why = "its XMPP server runs, but nothing behind it says that it speaks Wave, so waves cannot be shared with it";
            report.add(Finding::new(Severity::Error, Topic::Service, "disco-no-feature", what).why(why));
            return;
        }
        // Nothing is guessed here.
        discovery::Output::Send(_) | discovery::Output::Guess { .. } | discovery::Output::NoGuess { .. } => return,
    };
    let info = info(report, voice, &jid).await;
    if !pinged(report, voice, &jid, peer, places).await {
        return;
    }
    version(report, voice, &jid, &info).await;
    time(report, voice, &jid, peer).await;
    if info.has(ns::REACH) {
        reached(report, voice, &jid, peer, places).await;
    }
}

/// Runs discovery as it is run for every delivery, its questions asked by the voice; its end, and whether anybody
/// answered anything.
async fn find(voice: &Voice, own: &Domain, peer: &Domain) -> Result<(discovery::Output, bool), String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
    let wanted: billow_model::Domain = peer
        .as_str()
        .parse()
        .map_err(|_| format!("{peer} is no domain of waves"))?;
    let mut discovery = Discovery::new(own.to_jid(), Ids::new(seed));
    discovery.handle(clock::steady(), discovery::Input::Find(wanted));
    let mut asking = FuturesUnordered::new();
    let (mut silent, mut heard) = (VecDeque::new(), false);
    loop {
        while let Some(output) = discovery.poll() {
            match output {
                discovery::Output::Send(stanza) => asking.push(question(voice, stanza)),
                end => return Ok((end, heard)),
            }
        }
        match asking.next().await {
            Some((asked, Answer::Silence(reason))) => silent.push_back((asked, reason)),
            Some((asked, answer)) => {
                heard = true;
                discovery.handle(clock::steady(), discovery::Input::Answer(told(asked, answer)));
            }
            // Nobody else will answer.
            None => match silent.pop_front() {
                Some((asked, reason)) => {
                    let host = asked.to.domain().as_str().to_owned();
                    discovery.handle(clock::steady(), discovery::Input::Unreachable { host, reason });
                }
                None => return Err(format!("the search for the wave service of {peer} has not ended")),
            },
        }
    }
}

async fn question(voice: &Voice, stanza: Element) -> (Iq, Answer) {
    match Stanza::parse(&stanza) {
        Ok(Stanza::Iq(iq)) => {
            let payload = match &iq.kind {
                IqKind::Get(payload) => payload.clone(),
                _ => ping::request(),
            };
            let answer = voice.ask(&iq.to, payload).await;
            (iq, answer)
        }
        _ => unreachable!("discovery asks by iq"),
    }
}

fn told(asked: Iq, answer: Answer) -> Iq {
    match answer {
        Answer::Given(payload) => asked.result(payload),
        Answer::Refused(reason) | Answer::Silence(reason) => {
            asked.error(StanzaError::new(billow_xmpp::Condition::ServiceUnavailable, reason))
        }
    }
}

/// Nothing comes back, although what we send is taken.
fn silence(report: &mut Report, peer: &Domain, places: &str, reason: &str) {
    let what = format!("{peer} takes what is sent to it, but no answer comes: {reason}");
    let why = "answers come over a connection that the other server opens: it hangs, or it does not reach us";
    report.add(Finding::new(Severity::Error, Topic::Service, "no-answer", what).why(why));
    let what = format!("in: {peer} cannot open a connection to {places}, or does not answer at all");
    let why = "without it nothing that is written there arrives here";
    let change = "let the port in, in the firewall and the router; `billow doctor` without a domain looks at our own names and ports";
    report.add(
        Finding::new(Severity::Error, Topic::Ports, "port-in", what)
            .why(why)
            .change(change),
    );
}

async fn info(report: &mut Report, voice: &Voice, jid: &Jid) -> disco::Info {
    let Answer::Given(Some(payload)) = voice.ask(jid, disco::info_request()).await else {
        return disco::Info::default();
    };
    let info = disco::Info::parse(&payload).unwrap_or_default();
    let identity = |one: &disco::Identity| format!("{}/{}", one.category, one.kind);
    let identities: Vec<String> = info.identities.iter().map(identity).collect();
    let identities = identities.join(", ");
    let finding = if info.has(ns::WAVE) {
        Finding::new(
            Severity::Good,
            Topic::Service,
            "feature",
            format!("{jid} announces Wave; it is {identities}"),
        )
    } else {
        let what = format!("{jid} is {identities} and does not announce the feature {}", ns::WAVE);
        let why = "Apache Wave servers look at the feature and do not find it";
        Finding::new(Severity::Warning, Topic::Service, "disco-identity-only", what).why(why)
    };
    report.add(finding);
    info
}

async fn pinged(report: &mut Report, voice: &Voice, jid: &Jid, peer: &Domain, places: &str) -> bool {
    let asked = clock::tick();
    match voice.ask(jid, ping::request()).await {
        Answer::Silence(reason) => {
            silence(report, peer, places, &reason);
            return false;
        }
        Answer::Given(_) => {
            let what = format!("{jid} answers a ping, {} ms", asked.elapsed().as_millis());
            report.add(Finding::new(Severity::Good, Topic::Service, "ping", what));
        }
        Answer::Refused(reason) => {
            let what = format!("{jid} does not know pings, but answers: {reason}");
            report.add(Finding::new(Severity::Note, Topic::Service, "ping-unknown", what));
        }
    }
    let what = format!("in: {peer} has opened a connection to us, over which its answers came");
    report.add(Finding::new(Severity::Good, Topic::Ports, "port-in", what));
    true
}

async fn version(report: &mut Report, voice: &Voice, jid: &Jid, info: &disco::Info) {
    let answer = voice.ask(jid, about::software_request()).await;
    let software = match &answer {
        Answer::Given(Some(payload)) => about::Software::parse(payload),
        _ => None,
    };
    let what = match software {
        Some(about::Software { name, version }) => format!("{jid} runs {name} {version}"),
        None => match info.identities.iter().find_map(|one| one.name.clone()) {
            Some(name) => format!("{jid} calls itself {name}"),
            None => return,
        },
    };
    report.add(Finding::new(Severity::Good, Topic::Service, "version", what));
}

async fn time(report: &mut Report, voice: &Voice, jid: &Jid, peer: &Domain) {
    let before = clock::now().0;
    let answer = voice.ask(jid, about::time_request()).await;
    let after = clock::now().0;
    let theirs = match &answer {
        Answer::Given(Some(payload)) => about::parse_time(payload),
        _ => None,
    };
    let Some(theirs) = theirs else {
        let what = format!("{peer} does not tell the time; the clock was compared with nothing");
        return report.add(Finding::new(Severity::Note, Topic::Clock, "clock-unknown", what));
    };
    // Half of the way there and back is what the comparison may be wrong by.
    let difference = theirs - (before + (after - before) / 2);
    let slack = (after - before) / 2;
    let seconds = |ms: i64| format!("{}.{} s", ms.abs() / 1000, ms.abs() % 1000 / 100);
    let ours = if difference > 0 { "behind" } else { "ahead of" };
    let finding = if difference.abs() > CLOCK_WRONG + slack {
        let what = format!(
            "the clock of this machine is {} {ours} that of {peer} (XEP-0202)",
            seconds(difference)
        );
        let why = "one of the two is wrong: certificates are judged by it, and what people write bears its time";
        Finding::new(Severity::Error, Topic::Clock, "clock-off", what)
            .why(why)
            .change("let NTP set the clock: timedatectl set-ntp true, then timedatectl timesync-status")
    } else if difference.abs() > CLOCK_NOTE + slack {
        let what = format!(
            "the clock of this machine is {} {ours} that of {peer} (XEP-0202)",
            seconds(difference)
        );
        Finding::new(Severity::Warning, Topic::Clock, "clock-differs", what)
            .why("what people write here and there bears times that do not fit together")
            .change("let NTP set the clock: timedatectl set-ntp true, then timedatectl timesync-status")
    } else {
        let what = format!(
            "the clock agrees with that of {peer} within {} (XEP-0202)",
            seconds(difference.abs() + slack)
        );
        Finding::new(Severity::Good, Topic::Clock, "clock", what)
    };
    report.add(finding);
}

/// Has another server try each of our places.
pub(super) async fn reached(report: &mut Report, voice: &Voice, jid: &Jid, peer: &Domain, places: &str) {
    let tried = match voice.ask(jid, reach::request()).await {
        Answer::Given(Some(payload)) => reach::parse(&payload).map_err(|error| error.to_string()),
        Answer::Given(None) => Err("an empty answer".to_owned()),
        Answer::Refused(reason) => Err(reason),
        Answer::Silence(reason) => return silence(report, peer, places, &reason),
    };
    let broken = |what: String| {
        Finding::new(Severity::Error, Topic::Ports, "port-in", what)
            .why("without it nothing that is written there arrives here")
            .change("let the port in, in the firewall and the router; `billow doctor` without a domain looks at our own names and ports")
    };
    match tried {
        Err(reason) => {
            let what = format!("{peer} did not try to reach us: {reason}");
            report.add(Finding::new(Severity::Note, Topic::Ports, "reach-refused", what));
        }
        Ok(Err(reason)) => report.add(broken(format!("in: {peer} finds no place of ours: {reason}"))),
        Ok(Ok(tried)) => {
            for place in tried {
                let address = place.address;
                report.add(match place.outcome {
                    Ok(()) => {
                        let what = format!("in: {peer} reaches us at {address}");
                        Finding::new(Severity::Good, Topic::Ports, "port-in-tried", what)
                    }
                    Err(reason) => broken(format!("in: {peer} cannot open a connection to {address}: {reason}")),
                });
            }
        }
    }
}

/// Asks the XMPP server that we are a component of whether it is there, and lets us in.
pub(super) async fn in_front(report: &mut Report, voice: &Voice, name: &Domain, line: &str) {
    let above = name
        .as_str()
        .split_once('.')
        .and_then(|(_, above)| above.parse::<Domain>().ok());
    let server = above.unwrap_or_else(|| name.clone());
    let reason = match voice.ask(&server.to_jid(), ping::request()).await {
        Answer::Silence(reason) => reason,
        Answer::Given(_) | Answer::Refused(_) => {
            let what = format!("the XMPP server of {server} knows us as {name}");
            return report.add(Finding::new(Severity::Good, Topic::Ports, "component", what));
        }
    };
    let code = if reason.contains("refused the secret") {
        "component-secret"
    } else if reason.contains("cannot be reached") {
        "component-unreachable"
    } else {
        "component-refused"
    };
    let why = "all other servers are reached over that XMPP server, so none is";
    report.add(
        Finding::new(Severity::Error, Topic::Ports, code, reason)
            .why(why)
            .change(line),
    );
}

/// Asks another server only whether it reaches us.
pub(super) async fn only_reached(report: &mut Report, voice: &Voice, own: &Domain, peer: &Domain, places: &str) {
    let found = tokio::time::timeout(Duration::from_secs(40), find(voice, own, peer)).await;
    let jid = match found {
        Ok(Ok((discovery::Output::Found { service, .. }, _))) => service.jid,
        _ => {
            let what = format!("{peer} could not be asked whether it reaches us: `billow doctor {peer}` says why");
            return report.add(Finding::new(Severity::Note, Topic::Ports, "reach-not-asked", what));
        }
    };
    reached(report, voice, &jid, peer, places).await;
}
