//! Two real servers of two domains, federating over XMPP on loopback, driven through the commands.
//!
//! One test at a time: each has two servers of its own, and they are to be measured as a person would find them.

mod lab;
#[path = "two_servers/trust.rs"]
mod trust;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::{ACME, INITECH, Lab, text};
use serde_json::Value;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trace(name: &str) -> String {
    let folder = std::env::var_os("BILLOW_TRACES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces"),
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(
        path.exists(),
        "the editing traces are missing: expected {} (BILLOW_TRACES names another folder)",
        path.display()
    );
    path.to_string_lossy().into_owned()
}

#[test]
fn s_27_s_28_what_one_writes_the_other_reads_and_answers() {
    let _alone = alone();
    let lab = Lab::start();
    let created = lab.run("alice", &["wave", "new", "Lunch", "--with", "BOB@Acme.Lab"]);
    let wave = text(&created["wave"]).to_owned();
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), Duration::from_secs(10));

    let reply = lab.run(
        "bob",
        &[
            "wave",
            "write",
            &wave,
            "--reply-to",
            text(&created["blip"]),
            "Friday 😀 is fine",
        ],
    );
    lab.run(
        "bob",
        &["wave", "write", &wave, "--blip", text(&created["blip"]), " on Friday"],
    );
    let at_bob = lab.conversation("bob", &wave);
    lab.wait_for_equal("alice", &wave, &at_bob, Duration::from_secs(10));

    let at_alice = lab.conversation("alice", &wave);
    let blip = |id: &Value| {
        at_alice["blips"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|blip| blip["id"] == *id)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(blip(&created["blip"])["text"], "Lunch on Friday");
    assert_eq!(blip(&reply["blip"])["text"], "Friday 😀 is fine");
    assert_eq!(blip(&reply["blip"])["author"], "bob@acme.lab");
    let row = |rows: Value| {
        rows.as_array()
            .into_iter()
            .flatten()
            .find(|row| row["wave"] == wave.as_str())
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(row(lab.run("bob", &["wave", "list"]))["title"], "Lunch on Friday");
    assert_eq!(
        row(lab.run("alice", &["wave", "list"]))["people"],
        serde_json::json!(["alice@initech.lab", "bob@acme.lab"])
    );
}

#[test]
fn who_is_removed_sees_no_more() {
    let _alone = alone();
    let lab = Lab::start();
    let created = lab.run("alice", &["wave", "new", "Secret", "--with", "bob@acme.lab"]);
    let wave = text(&created["wave"]).to_owned();
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), Duration::from_secs(10));
    lab.run("alice", &["wave", "remove", &wave, "bob@acme.lab"]);
    lab.run("alice", &["wave", "write", &wave, "for our eyes only"]);
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        let output = lab
            .command(&["wave", "show", &wave, "--profile", "bob"])
            .output()
            .expect("show runs");
        assert!(
            !String::from_utf8_lossy(&output.stdout).contains("our eyes"),
            "a removed participant reads on"
        );
        if !output.status.success() {
            break;
        }
        assert!(Instant::now() < give_up, "bob still sees the wave");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_real_history_typed_again_ends_as_it_ended() {
    let _alone = alone();
    let lab = Lab::start();
    let report = lab.run(
        "alice",
        &["replay", "--trace", &trace("clownschool.json.gz"), "--at", "alice,bob"],
    );
    println!("FIGURE replay {report}");
    for equal in ["ok", "textEqual", "hashEqual", "digestEqual"] {
        assert_eq!(report[equal], true, "{report}");
    }
}

#[test]
fn s_61_a_remote_that_was_away_has_everything_when_it_is_back() {
    let _alone = alone();
    let mut lab = Lab::start();
    let created = lab.run("alice", &["wave", "new", "Away", "--with", "bob@acme.lab"]);
    let wave = text(&created["wave"]).to_owned();
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), Duration::from_secs(10));

    lab.kill(ACME);
    for number in 0..20 {
        lab.run(
            "alice",
            &[
                "wave",
                "write",
                &wave,
                "--blip",
                text(&created["blip"]),
                &format!(" {number}"),
            ],
        );
    }
    let give_up = Instant::now() + Duration::from_secs(40);
    let state = loop {
        let state = lab.conversation("alice", &wave)["delivery"][0].clone();
        if state["state"] == "waiting" || Instant::now() > give_up {
            break state;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(
        (&state["state"], &state["domain"]),
        (&"waiting".into(), &"acme.lab".into()),
        "{state}"
    );

    let wanted = lab.conversation("alice", &wave);
    let back = Instant::now();
    lab.restart(ACME);
    lab.wait_for_equal("bob", &wave, &wanted, Duration::from_secs(30));
    println!("FIGURE away remote_caught_up_ms={}", back.elapsed().as_millis());
}

#[test]
fn what_is_written_while_the_host_is_away_is_sent_when_it_is_back() {
    let _alone = alone();
    let mut lab = Lab::start();
    let created = lab.run("alice", &["wave", "new", "Host away", "--with", "bob@acme.lab"]);
    let wave = text(&created["wave"]).to_owned();
    lab.wait_for_equal("bob", &wave, &lab.conversation("alice", &wave), Duration::from_secs(10));

    lab.kill(INITECH);
    let mut writing = lab
        .command(&[
            "wave",
            "write",
            &wave,
            "--blip",
            text(&created["blip"]),
            " from bob",
            "--profile",
            "bob",
            "--json",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("write runs");
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        writing.try_wait().expect("it is our child").is_none(),
        "nobody can have accepted it yet"
    );
    lab.restart(INITECH);
    assert!(
        writing.wait().expect("it ends").success(),
        "bob's words were sent when the host came back"
    );
    let at_alice = lab.conversation("alice", &wave);
    assert_eq!(at_alice["blips"][0]["text"], "Host away from bob");
    lab.wait_for_equal("bob", &wave, &at_alice, Duration::from_secs(10));
}

/// How many kills: `BILLOW_KILLS`, else few enough for every run.
fn kills() -> u32 {
    std::env::var("BILLOW_KILLS")
        .ok()
        .map_or(6, |text| text.parse().expect("BILLOW_KILLS is a number"))
}

#[test]
fn a_server_killed_in_mid_replay_loses_nothing_and_repeats_nothing() {
    let _alone = alone();
    let mut lab = Lab::start();
    let kills = kills();
    // The times between kills come from a fixed seed, so that a run can be repeated.
    let mut seed: u64 = 0x5eed_b111;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let path = trace("clownschool.json.gz");
    let mut done = 0;
    let mut deltas = 0;
    let mut reconnects = 0;
    let (mut at_host, mut rounds) = (0, 0);
    while done < kills {
        rounds += 1;
        // As many edits as keep the authors busy until the last kill of the round.
        let mut replay = lab
            .command(&[
                "replay",
                "--trace",
                &path,
                "--at",
                "alice,bob",
                "--json",
                "--patience",
                "60",
                "--first",
                "6000",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("replay runs");
        std::thread::sleep(Duration::from_millis(500));
        while done < kills && replay.try_wait().expect("it is our child").is_none() {
            std::thread::sleep(Duration::from_millis(100 + random(900)));
            if replay.try_wait().expect("it is our child").is_some() {
                break;
            }
            let victim = if random(2) == 0 { INITECH } else { ACME };
            lab.kill(victim);
            at_host += u32::from(victim == INITECH);
            std::thread::sleep(Duration::from_millis(random(300)));
            lab.restart(victim);
            done += 1;
        }
        let output = replay.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "after {done} kills: {stderr}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        for equal in ["ok", "textEqual", "hashEqual", "digestEqual"] {
            assert_eq!(report[equal], true, "{report}");
        }
        deltas += report["deltas"].as_u64().unwrap_or_default();
        reconnects += report["reconnects"].as_u64().unwrap_or_default();
    }
    println!(
        "FIGURE crash kills={done} of_host={at_host} rounds={rounds} deltas={deltas} reconnects={reconnects} lost=0 doubled=0"
    );
    assert!(reconnects > 0, "no author noticed a kill: the test killed nothing");
}
