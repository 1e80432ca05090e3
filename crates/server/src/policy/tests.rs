//! Modes, lists and decisions, the doors in and out, and who waits for a decision.

use super::*;

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn patterns(list: &[&str]) -> Vec<Pattern> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

async fn policy(store: &Store, mode: Mode, allow: &[&str], deny: &[&str]) -> Policy {
    let config = PolicyConfig {
        mode,
        allow: patterns(allow),
        deny: patterns(deny),
        ..PolicyConfig::default()
    };
    Policy::load(domain("initech.lab"), config, store.clone())
        .await
        .unwrap()
}

fn peer(policy: &Policy, names: &[&str]) -> Result<(), String> {
    policy.inbound(&names.iter().map(|name| domain(name)).collect())
}

#[tokio::test]
async fn each_mode_says_what_is_done_with_those_that_are_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (mode, otherwise) in [
        (Mode::Open, Verdict::Allow),
        (Mode::Deny, Verdict::Allow),
        (Mode::Allow, Verdict::Block),
        (Mode::Ask, Verdict::Ask),
    ] {
        let policy = policy(
            &store,
            mode,
            &["good.lab", "*.mixed.lab"],
            &["bad.lab", "one.mixed.lab"],
        )
        .await;
        for (name, expected) in [
            ("good.lab", Verdict::Allow),
            ("two.mixed.lab", Verdict::Allow),
            ("bad.lab", Verdict::Block),
            ("one.mixed.lab", Verdict::Block),
            ("other.lab", otherwise),
        ] {
            assert_eq!(policy.verdict(&domain(name)), expected, "{mode:?} {name}");
        }
    }
    let both = policy(&store, Mode::Open, &["*.lab"], &["*.lab"]).await;
    assert_eq!(both.verdict(&domain("x.lab")), Verdict::Block);
}

#[tokio::test]
async fn a_decision_outweighs_the_lists_survives_a_restart_and_can_be_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = policy(&store, Mode::Allow, &["good.lab"], &[]).await;
    first.decide("*".parse().unwrap(), Verdict::Allow).await.unwrap();
    first.decide("good.lab".parse().unwrap(), Verdict::Block).await.unwrap();
    let again = policy(&store, Mode::Allow, &["good.lab"], &[]).await;
    for policy in [&first, &again] {
        assert_eq!(policy.verdict(&domain("good.lab")), Verdict::Block);
        assert_eq!(policy.verdict(&domain("other.lab")), Verdict::Allow);
        assert_eq!(policy.list().decisions.len(), 2);
    }
    assert!(again.forget(&"good.lab".parse().unwrap()).await.unwrap());
    assert!(!again.forget(&"good.lab".parse().unwrap()).await.unwrap());
    assert!(again.forget(&"*".parse().unwrap()).await.unwrap());
    assert_eq!(again.verdict(&domain("good.lab")), Verdict::Allow);
    assert_eq!(again.verdict(&domain("other.lab")), Verdict::Block);
}

#[tokio::test]
async fn who_waits_is_noted_once_and_until_somebody_decides() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = policy(&store, Mode::Ask, &[], &[]).await;
    let told = peer(&first, &["acme.lab"]).unwrap_err();
    assert_eq!(
        told,
        "acme.lab has to be allowed by the administrator of initech.lab first, who has been asked"
    );
    let told = first.outbound(&domain("acme.lab")).unwrap_err();
    assert_eq!(
        told,
        "acme.lab has to be allowed by your administrator first, who has been asked"
    );
    peer(&first, &["wave.hooli.lab"]).unwrap_err();
    let waiting = first.list().waiting;
    let rows: Vec<_> = waiting.iter().map(|row| (row.domain.as_str(), row.wanted)).collect();
    assert_eq!(rows, [("acme.lab", true), ("hooli.lab", false)]);
    // They are kept by tasks of their own.
    while store.undecided().await.unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let again = policy(&store, Mode::Ask, &[], &[]).await;
    assert_eq!(again.list().waiting.len(), 2);
    again
        .decide("hooli.lab".parse().unwrap(), Verdict::Allow)
        .await
        .unwrap();
    again.decide("acme.lab".parse().unwrap(), Verdict::Block).await.unwrap();
    assert_eq!(again.list().waiting, []);
    assert_eq!(store.undecided().await.unwrap(), []);
    assert_eq!(peer(&again, &["wave.hooli.lab"]), Ok(()));
    assert_eq!(
        again.outbound(&domain("acme.lab")).unwrap_err(),
        "acme.lab is not allowed here by your administrator"
    );
    assert_eq!(
        peer(&again, &["acme.lab"]).unwrap_err(),
        "acme.lab is not allowed by the administrator of initech.lab"
    );
}

#[tokio::test]
async fn a_service_goes_with_the_domain_above_it_and_with_those_that_it_speaks_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let listed = policy(&store, Mode::Allow, &["acme.lab"], &[]).await;
    assert_eq!(peer(&listed, &["wave.acme.lab"]), Ok(()));
    assert_eq!(peer(&listed, &["acme.lab", "waves.host.lab"]), Ok(()));
    assert!(peer(&listed, &["waves.host.lab"]).is_err());
    assert!(!listed.hears(&domain("other.lab")));
    let open = policy(&store, Mode::Deny, &[], &["acme.lab"]).await;
    assert!(peer(&open, &["wave.acme.lab"]).is_err());
    assert_eq!(peer(&open, &["lab2.lab"]), Ok(()));
    assert_eq!(open.outbound(&domain("initech.lab")), Ok(()));
}

#[tokio::test]
async fn a_user_may_invite_people_of_so_many_new_domains_and_is_told_when_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let policy = policy(&store, Mode::Open, &[], &[]).await;
    let alice: ParticipantId = "alice@initech.lab".parse().unwrap();
    let domains: Vec<Domain> = (0..11).map(|n| domain(&format!("d{n}.lab"))).collect();
    for domain in &domains[..10] {
        assert_eq!(policy.contacts(&alice, &[domain.clone()].into()), Ok(()));
    }
    let words = policy.contacts(&alice, &[domains[10].clone()].into()).unwrap_err();
    assert_eq!(
        words,
        "you have invited people of 10 domains that are new here within an hour, and more are not allowed; \
         try again in 60 minutes"
    );
}
