//! Finding services: of Billow servers, of components, of nobody.

use super::*;
use billow_xmpp::{Condition, Stanza, StanzaError};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

struct Driver {
    discovery: Discovery,
    now: Timestamp,
    results: Vec<Output>,
}

impl Driver {
    fn new() -> Self {
        Self {
            discovery: Discovery::new(jid("initech.lab"), Ids::new([5; 32])),
            now: NOW,
            results: Vec::new(),
        }
    }

    /// One that tries the usual name last.
    fn guessing() -> Self {
        let mut driver = Self::new();
        driver.discovery = driver.discovery.guessing();
        driver
    }

    /// Tells the machine and gives what it asks.
    fn tell(&mut self, input: Input) -> Vec<Iq> {
        self.discovery.handle(self.now, input);
        let mut sent = Vec::new();
        while let Some(output) = self.discovery.poll() {
            match output {
                Output::Send(element) => match Stanza::parse(&element) {
                    Ok(Stanza::Iq(iq)) => sent.push(iq),
                    other => panic!("{other:?}"),
                },
                result => self.results.push(result),
            }
        }
        sent
    }

    fn find(&mut self, name: &str) -> Vec<Iq> {
        self.tell(Input::Find(domain(name)))
    }

    fn items(&mut self, iq: &Iq, items: &[&str]) -> Vec<Iq> {
        let items: Vec<Jid> = items.iter().map(|item| jid(item)).collect();
        self.tell(Input::Answer(iq.result(Some(disco::items_element(&items)))))
    }

    fn info(&mut self, iq: &Iq, features: &[&str]) -> Vec<Iq> {
        let info = Info {
            identities: vec![],
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        };
        self.tell(Input::Answer(iq.result(Some(info.to_element()))))
    }

    fn error(&mut self, iq: &Iq) -> Vec<Iq> {
        self.tell(Input::Answer(
            iq.error(StanzaError::new(Condition::ServiceUnavailable, "nobody")),
        ))
    }

    /// Lets the time pass to the next deadline.
    fn wait(&mut self) -> Vec<Iq> {
        self.now = self.discovery.deadline().expect("there is something to wait for");
        self.tell(Input::Tick)
    }

    fn found(&mut self) -> (String, Software) {
        assert_eq!(self.results.len(), 1, "{:?}", self.results);
        match self.results.remove(0) {
            Output::Found { service, .. } => (service.jid.to_string(), service.software),
            other => panic!("{other:?}"),
        }
    }

    fn failed(&mut self) -> (String, Timestamp) {
        assert_eq!(self.results.len(), 1, "{:?}", self.results);
        match self.results.remove(0) {
            Output::Failed { reason, retry_at, .. } => (reason, retry_at),
            other => panic!("{other:?}"),
        }
    }
}

const BILLOW: Software = Software::Billow {
    presence: true,
    digest: true,
};

#[test]
fn a_billow_server_is_found_with_one_question_each_way() {
    let mut driver = Driver::new();
    let asked = driver.find("acme.lab");
    assert_eq!(asked.len(), 2, "items and info at the same time");
    assert!(
        asked
            .iter()
            .all(|iq| iq.to == jid("acme.lab") && iq.from == jid("initech.lab"))
    );
    let own = own_info("A Billow");
    driver.tell(Input::Answer(asked[1].result(Some(own.to_element()))));
    assert_eq!(driver.found(), ("acme.lab".into(), BILLOW));
    assert_eq!(
        driver.items(&asked[0], &["x.acme.lab"]),
        Vec::new(),
        "what comes after is not needed"
    );
    assert_eq!(driver.discovery.deadline(), None);
    // Known from now on.
    assert_eq!(driver.find("acme.lab"), Vec::new());
    assert_eq!(driver.found(), ("acme.lab".into(), BILLOW));
}

#[test]
fn a_component_is_found_among_the_items_of_its_domain() {
    let mut driver = Driver::new();
    let asked = driver.find("beta.lab");
    driver.info(&asked[1], &["http://jabber.org/protocol/disco#info"]);
    let infos = driver.items(
        &asked[0],
        &["chat.beta.lab", "wave.beta.lab", "initech.lab", "beta.lab"],
    );
    assert_eq!(
        infos.iter().map(|iq| iq.to.as_str()).collect::<Vec<_>>(),
        ["chat.beta.lab", "wave.beta.lab"],
        "not us, not again"
    );
    driver.info(&infos[1], &[ns::WAVE]);
    assert_eq!(driver.results, Vec::new(), "those before it in order come first");
    driver.error(&infos[0]);
    assert_eq!(driver.found(), ("wave.beta.lab".into(), Software::Legacy));
}

#[test]
fn b_082_the_choice_does_not_depend_on_who_is_quicker() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut driver = Driver::new();
        let asked = driver.find("beta.lab");
        driver.error(&asked[1]);
        let infos = driver.items(&asked[0], &["c.lab", "a.lab", "b.lab"]);
        for at in order {
            driver.info(&infos[at], &[ns::WAVE]);
        }
        assert_eq!(driver.found().0, "a.lab");
    }
}

#[test]
fn b_084_the_feature_or_the_identity_is_enough() {
    let identity = |category: &str, kind: &str| Identity {
        category: category.into(),
        kind: kind.into(),
        name: None,
    };
    for (identities, features, expected) in [
        (vec![identity("collaboration", "google-wave")], vec![], true),
        (vec![identity("collaboration", "apache-wave")], vec![], true),
        (vec![], vec![ns::WAVE.to_owned()], true),
        (vec![identity("server", "im")], vec![], false),
        (vec![identity("collaboration", "other")], vec!["x".to_owned()], false),
    ] {
        assert_eq!(software(&Info { identities, features }).is_some(), expected);
    }
}

#[test]
fn b_083_a_silent_domain_is_given_up_in_time_and_may_still_answer() {
    let mut driver = Driver::new();
    let asked = driver.find("acme.lab");
    assert_eq!(driver.wait(), Vec::new());
    assert_eq!(driver.now.0 - NOW.0, ITEMS_TIMEOUT_MS);
    while driver.discovery.deadline().is_some() {
        driver.wait();
    }
    assert_eq!(driver.now.0 - NOW.0, INFO_TIMEOUT_MS);
    let (_, retry_at) = driver.failed();
    assert_eq!(retry_at.0 - driver.now.0, SILENT_MS);
    assert_eq!(driver.find("acme.lab"), Vec::new(), "a failure is remembered");
    driver.failed();
    // Late, and from somebody else.
    let stranger = Iq {
        from: jid("evil.lab"),
        ..asked[1].result(Some(own_info("").to_element()))
    };
    assert!(!driver.discovery.asked(&stranger));
    driver.tell(Input::Answer(stranger));
    assert_eq!(driver.discovery.service(&domain("acme.lab")), None);
    // From itself, to a question that was never put.
    let unasked = Iq {
        id: "never-asked".into(),
        ..asked[1].result(Some(own_info("").to_element()))
    };
    assert!(!driver.discovery.asked(&unasked));
    driver.tell(Input::Answer(unasked));
    assert_eq!(driver.discovery.service(&domain("acme.lab")), None);
    // Late, but asked for.
    driver.info(&asked[1], &[ns::WAVE]);
    assert_eq!(driver.found().0, "acme.lab");
}

/// Below a suffix that many share the usual name is anybody's (T-09).
#[test]
fn b_087_below_a_public_suffix_nothing_is_guessed() {
    for name in ["localhost", "com", "co.uk", "com.au", "github.io", "workers.dev"] {
        let mut driver = Driver::guessing();
        let asked = driver.find(name);
        assert_eq!(driver.error(&asked[0]), Vec::new());
        assert_eq!(driver.error(&asked[1]), Vec::new(), "nobody else is asked");
        assert!(driver.failed().0.contains("nobody"));
        let usual = jid(&format!("wave.{name}"));
        assert!(!driver.discovery.speaks_for(&usual, &domain(name)));
    }
}

/// The usual name of a domain that names no service: the driver is told first that it must prove to be the domain's.
#[test]
fn the_usual_name_is_asked_last_and_must_prove_the_domain() {
    for name in ["acme.lab", "users.example.net"] {
        let mut driver = Driver::guessing();
        let asked = driver.find(name);
        assert_eq!(
            driver.items(&asked[0], &[]),
            Vec::new(),
            "the domain itself comes first"
        );
        let guessed = driver.info(&asked[1], &[]);
        let usual = jid(&format!("wave.{name}"));
        let (host, base) = (usual.clone(), domain(name));
        assert_eq!(driver.results, [Output::Guess { host, base }]);
        driver.results.clear();
        assert_eq!(guessed.iter().map(|iq| &iq.to).collect::<Vec<_>>(), [&usual]);
        assert!(
            !driver.discovery.speaks_for(&usual, &domain(name)),
            "not before it has answered"
        );
        driver.info(&guessed[0], &[ns::WAVE]);
        assert_eq!(driver.found().0, usual.as_str());
        assert!(driver.discovery.speaks_for(&usual, &domain(name)));
        // Looked for again, it is the same, and what it must prove stays.
        let asked = driver.tell(Input::Again(domain(name)));
        driver.error(&asked[0]);
        let again = driver.error(&asked[1]);
        driver.info(&again[0], &[ns::WAVE]);
        assert!(
            matches!(driver.results[..], [Output::Guess { .. }, Output::Found { .. }]),
            "{:?}",
            driver.results
        );
    }
}

#[test]
fn a_guess_that_proves_nothing_is_dropped_and_the_first_reason_counts() {
    let mut driver = Driver::guessing();
    driver.find("acme.lab");
    let unreachable = |host: &str, reason: &str| Input::Unreachable {
        host: host.to_owned(),
        reason: reason.to_owned(),
    };
    let guessed = driver.tell(unreachable("acme.lab", "no DNS record says where its server is"));
    driver.tell(unreachable("wave.acme.lab", "its certificate is not good for acme.lab"));
    let [
        Output::Guess { .. },
        Output::NoGuess { host },
        Output::Failed { reason, .. },
    ] = &driver.results[..]
    else {
        panic!("{:?}", driver.results)
    };
    assert_eq!(
        (host, reason.as_str()),
        (&jid("wave.acme.lab"), "no DNS record says where its server is")
    );
    // Its word counts no longer, also if it comes late.
    driver.results.clear();
    driver.info(&guessed[0], &[ns::WAVE]);
    assert_eq!(driver.results, Vec::new());
    assert!(!driver.discovery.speaks_for(&jid("wave.acme.lab"), &domain("acme.lab")));
}

#[test]
fn a_domain_that_answers_after_all_frees_the_guess() {
    let mut driver = Driver::guessing();
    let asked = driver.find("acme.lab");
    let guessed = driver.wait();
    assert_eq!(driver.now.0 - NOW.0, ITEMS_TIMEOUT_MS, "guess after 10 s");
    driver.info(&asked[1], &[ns::WAVE]);
    assert!(
        matches!(&driver.results[..], [Output::Guess { .. }, Output::NoGuess { .. }, Output::Found { service, .. }]
            if service.jid == jid("acme.lab")),
        "{:?}",
        driver.results
    );
    driver.results.clear();
    driver.info(&guessed[0], &[ns::WAVE]);
    assert_eq!(driver.results, Vec::new());
}

#[test]
fn what_was_found_and_what_was_not_have_lives_of_their_own() {
    let mut driver = Driver::new();
    driver.discovery = driver.discovery.with_lives(1_000, 500);
    let asked = driver.find("acme.lab");
    driver.error(&asked[0]);
    driver.error(&asked[1]);
    assert_eq!(driver.failed().1.0 - driver.now.0, 500);
    // Now, whatever was found out before.
    let asked = driver.tell(Input::Again(domain("acme.lab")));
    driver.info(&asked[1], &[ns::WAVE]);
    driver.found();
    driver.now.0 += 1_001;
    assert_eq!(driver.find("acme.lab").len(), 2, "looked for again");
}

#[test]
fn b_081_a_flood_of_items_costs_few_questions() {
    let mut driver = Driver::new();
    let asked = driver.find("acme.lab");
    let many: Vec<String> = (0..100_000).map(|n| format!("i{n}.acme.lab")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(driver.items(&asked[0], &many).len() < MAX_CANDIDATES);
    // Itself, us, one many times over: each is asked once at most, and we not at all.
    let mut driver = Driver::new();
    let asked = driver.find("loop.lab");
    let again = [
        "loop.lab",
        "initech.lab",
        "a.loop.lab",
        "a.loop.lab",
        "loop.lab",
        "a.loop.lab",
    ];
    let infos = driver.items(&asked[0], &again);
    let to: Vec<&str> = infos.iter().map(|iq| iq.to.as_str()).collect();
    assert_eq!(to, ["a.loop.lab"]);
    // The items' own items are never asked for: a circle has no way in. The same answer again asks nobody.
    let circle = driver.items(&asked[0], &["b.loop.lab"]);
    assert_eq!(circle, Vec::new());
    assert_eq!(driver.info(&infos[0], &[ns::WAVE]), Vec::new());
    driver.error(&asked[1]);
    assert_eq!(driver.found().0, "a.loop.lab");
    // Another domain is found meanwhile as ever.
    let asked = driver.find("acme.lab");
    driver.error(&asked[0]);
    driver.info(&asked[1], &[ns::WAVE]);
    assert_eq!(driver.found().0, "acme.lab");
}

#[test]
fn b_085_b_086_only_a_domains_own_answer_makes_an_address_speak_for_it() {
    let mut driver = Driver::new();
    // evil.lab says that its service is victim.lab's: that gives victim.lab's address a second domain and evil.lab nothing.
    let asked = driver.find("evil.lab");
    driver.error(&asked[1]);
    let infos = driver.items(&asked[0], &["wave.victim.lab"]);
    driver.info(&infos[0], &[ns::WAVE]);
    driver.found();
    let speaks = |driver: &Driver, from: &str, name: &str| driver.discovery.speaks_for(&jid(from), &domain(name));
    assert!(speaks(&driver, "wave.victim.lab", "evil.lab"));
    assert!(!speaks(&driver, "evil.lab", "victim.lab"));
    assert!(
        !speaks(&driver, "wave.victim.lab", "victim.lab"),
        "not before victim.lab itself has said so"
    );
    assert!(speaks(&driver, "victim.lab", "victim.lab"));
    assert!(
        !speaks(&driver, "somebody@victim.lab", "victim.lab"),
        "a user is not the server"
    );
    let victim = jid("wave.victim.lab");
    assert_eq!(
        driver.discovery.domains_of(&victim).collect::<Vec<_>>(),
        [&domain("evil.lab")]
    );
}

#[test]
fn a_found_service_is_looked_for_again_after_two_hours_and_used_meanwhile() {
    let mut driver = Driver::new();
    let asked = driver.find("acme.lab");
    driver.info(&asked[1], &[ns::WAVE]);
    driver.found();
    driver.now = Timestamp(NOW.0 + FOUND_MS + 1);
    let again = driver.find("acme.lab");
    assert_eq!((again.len(), driver.found().1), (2, Software::Legacy));
    driver.info(&again[1], &[ns::WAVE, ns::PRESENCE]);
    assert_eq!(
        driver.found().1,
        Software::Billow {
            presence: true,
            digest: false
        }
    );
}

#[test]
fn a_failure_is_forgotten_when_the_domain_speaks_or_after_five_minutes() {
    let mut driver = Driver::new();
    driver.find("acme.lab");
    driver.tell(Input::Unreachable {
        host: "acme.lab".into(),
        reason: "connection refused".into(),
    });
    assert_eq!(driver.failed().0, "connection refused");
    assert_eq!(driver.tell(Input::Heard(domain("other.lab"))), Vec::new());
    assert_eq!(driver.tell(Input::Heard(domain("acme.lab"))).len(), 2);
    driver.tell(Input::Unreachable {
        host: "acme.lab".into(),
        reason: "x".into(),
    });
    driver.failed();
    driver.now = Timestamp(driver.now.0 + FAILED_MS);
    assert_eq!(driver.find("acme.lab").len(), 2);
}

#[test]
fn a_component_that_speaks_shows_that_its_domain_is_worth_another_look() {
    let mut driver = Driver::new();
    driver.find("beta.test");
    while driver.discovery.is_looking_for(&domain("beta.test")) {
        driver.wait();
    }
    driver.failed();
    let claimed = |by: &str| Input::Claimed {
        domain: domain("beta.test"),
        by: by.to_owned(),
    };
    assert!(
        driver.tell(claimed("wave.beta.test")).is_empty(),
        "it was looked for just now"
    );
    driver.now = driver.now.later(CLAIM_AGAIN_MS);
    assert!(driver.tell(claimed("evilbeta.test")).is_empty(), "that is not below it");
    assert!(driver.tell(claimed("wave.evil.test")).is_empty());
    assert!(!driver.tell(claimed("wave.beta.test")).is_empty());
    assert!(driver.discovery.is_looking_for(&domain("beta.test")));
}

#[test]
fn what_is_no_address_is_no_domain() {
    let long = format!("{}.lab", "a".repeat(64));
    for name in [long.as_str(), "ab--cd.lab", "xn--a.lab"] {
        assert!(Jid::new(name).is_err() && name.parse::<Domain>().is_err(), "{name}");
    }
}

#[test]
fn a_peer_has_only_so_many_names_looked_for() {
    let mut driver = Driver::new();
    let claim = |driver: &mut Driver, name: &str, by: &str| {
        driver.tell(Input::Claimed {
            domain: domain(name),
            by: by.into(),
        })
    };
    let asked: usize = (0..1_000)
        .map(|n| claim(&mut driver, &format!("n{n}.lab"), "evil.lab").len())
        .sum();
    assert_eq!(asked, 2 * CLAIMS_OF_PEER);
    assert_eq!(driver.discovery.entries.len(), CLAIMS_OF_PEER);
    // Nobody else has less for it, and what turns out to be right does not count.
    for n in 0..2 * CLAIMS_OF_PEER {
        let asked = claim(&mut driver, &format!("d{n}.lab"), "hub.lab");
        let infos = driver.items(&asked[0], &["hub.lab"]);
        driver.error(&asked[1]);
        driver.info(&infos[0], &[ns::WAVE]);
        assert_eq!(driver.found().0, "hub.lab");
    }
    // What we want ourselves is always looked for, and then it counts no more.
    assert_eq!(driver.find("n500.lab").len(), 2);
    assert_eq!(driver.find("n0.lab"), Vec::new(), "under way");
    assert_eq!(claim(&mut driver, "n501.lab", "evil.lab").len(), 2);
    assert_eq!(claim(&mut driver, "n502.lab", "evil.lab"), Vec::new());
    // Failures are forgotten in time.
    while driver.discovery.deadline().is_some() {
        driver.wait();
    }
    driver.now = Timestamp(driver.now.0 + FAILED_MS);
    assert_eq!(claim(&mut driver, "n503.lab", "evil.lab").len(), 2);
    assert_eq!(driver.discovery.entries.len(), 2 * CLAIMS_OF_PEER + 3);
}

#[test]
fn many_peers_together_have_only_so_many_names_looked_for() {
    let mut driver = Driver::new();
    let asked: usize = (0..1_000)
        .map(|n| {
            driver
                .tell(Input::Claimed {
                    domain: domain(&format!("n{n}.lab")),
                    by: format!("p{n}.evil.lab"),
                })
                .len()
        })
        .sum();
    assert_eq!(asked, 2 * CLAIMS);
}
