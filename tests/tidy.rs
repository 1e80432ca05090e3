//! The house rules that a machine can check: who may know whom, what the pure crates may not do, and that what is
//! generated, promised or listed is there. Each test says in its message what to change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates each crate may use; the storeys of ARCHITECTURE.md.
const LAYERS: &[(&str, &[&str])] = &[
    ("billow-model", &[]),
    ("billow-wire", &["billow-model"]),
    ("billow-signing", &["billow-model", "billow-wire"]),
    ("billow-wavelet", &["billow-model", "billow-wire", "billow-signing"]),
    ("billow-xmpp", &[]),
    (
        "billow-federation",
        &["billow-model", "billow-wire", "billow-signing", "billow-xmpp"],
    ),
    ("billow-store", &["billow-model"]),
    ("billow-net", &["billow-xmpp"]),
    (
        "billow-server",
        &[
            "billow-model",
            "billow-wire",
            "billow-signing",
            "billow-wavelet",
            "billow-xmpp",
            "billow-federation",
            "billow-store",
            "billow-net",
        ],
    ),
    (
        "billow",
        &["billow-model", "billow-wire", "billow-signing", "billow-server"],
    ),
    // Never shipped: the pure crates under a world of its own making.
    (
        "billow-sim",
        &[
            "billow-model",
            "billow-wire",
            "billow-signing",
            "billow-wavelet",
            "billow-xmpp",
            "billow-federation",
        ],
    ),
];

/// The crates that decide and never act.
const PURE: &[&str] = &["model", "wire", "signing", "wavelet", "xmpp", "federation"];

/// What a pure crate may not say, and why.
const IMPURE: &[(&str, &str)] = &[
    ("async fn", "a machine never awaits"),
    (".await", "a machine never awaits"),
    ("tokio", "a machine knows no runtime"),
    ("std::net::Tcp", "a machine opens no socket"),
    ("std::net::Udp", "a machine opens no socket"),
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("std::fs", "a machine touches no file"),
    ("std::thread", "a machine spawns nothing"),
    ("Mutex", "a machine has one owner"),
    ("RwLock", "a machine has one owner"),
    ("println!", "a library does not print"),
];

/// Names that say nothing (design rule: cut by noun from the glossary).
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "types", "handlers", "services", "manager", "misc", "mod",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the checkout is there")
}

/// All tracked-looking files below a folder with one of these endings; build folders left out.
fn files(below: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                if !["target", "node_modules", "dist", ".git"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// The code of a file without its unit tests (by convention at the bottom) and without comments.
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn each_crate_uses_only_the_storeys_below_it() {
    let allowed: BTreeMap<_, BTreeSet<_>> = LAYERS
        .iter()
        .map(|(name, uses)| (*name, uses.iter().copied().collect()))
        .collect();
    let mut seen = BTreeSet::new();
    for manifest in files(&root().join("crates"), &["Cargo.toml"]) {
        let manifest_text = read(&manifest);
        let parsed: toml::Table = manifest_text.parse().expect("a manifest is TOML");
        let name = parsed["package"]["name"]
            .as_str()
            .expect("a package has a name")
            .to_owned();
        let may = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} is not in LAYERS of tests/tidy.rs: a new crate needs a decision record"));
        let dependencies = parsed
            .get("dependencies")
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default();
        for dependency in dependencies.keys().filter(|key| key.starts_with("billow")) {
            assert!(
                may.contains(dependency.as_str()),
                "{name} may not use {dependency}; see the storeys in ARCHITECTURE.md"
            );
        }
        seen.insert(name);
    }
    assert_eq!(
        seen.len(),
        LAYERS.len(),
        "LAYERS names crates that are not there; found {seen:?}"
    );
}

#[test]
fn pure_crates_do_nothing() {
    for krate in PURE {
        for file in files(&root().join("crates").join(krate).join("src"), &[".rs"]) {
            // Files of tests only, kept beside the code.
            if file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests") {
                continue;
            }
            let code = code(&file);
            for (word, why) in IMPURE {
                if let Some(line) = code.lines().position(|line| line.contains(word)) {
                    panic!("{}:{}: `{word}` in a pure crate: {why}", file.display(), line + 1);
                }
            }
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for file in files(&root().join("crates"), &[".rs"]) {
        let first = read(&file).lines().next().unwrap_or_default().to_owned();
        assert!(
            first.starts_with("//!"),
            "{}: the first line says what the file is (`//! …`)",
            file.display()
        );
    }
}

#[test]
fn names_say_something() {
    for file in files(&root().join("crates"), &[".rs"])
        .into_iter()
        .chain(files(&root().join("web/src"), &[".ts", ".tsx"]))
    {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(
            !EMPTY_NAMES.contains(&stem.as_str()),
            "{}: name a file after a thing of the glossary",
            file.display()
        );
    }
}

#[test]
fn nothing_is_left_to_do_silently() {
    for file in files(&root().join("crates"), &[".rs"]) {
        for (number, line) in code(&file).lines().enumerate() {
            for word in ["todo!(", "unimplemented!(", "dbg!("] {
                assert!(
                    !line.contains(word),
                    "{}:{}: `{word}…)` is left",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn the_changelog_has_a_place_for_what_is_next() {
    assert!(
        read(&root().join("CHANGELOG.md")).contains("## [Unreleased]"),
        "CHANGELOG.md needs an Unreleased section"
    );
}

#[test]
fn s_21_links_between_the_documents_lead_somewhere() {
    let mut documents = files(&root().join("docs"), &[".md"]);
    documents.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    for document in documents {
        let text = read(&document);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
        {
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = document.parent().expect("a document lies in a folder").join(target);
            assert!(
                path.exists(),
                "{}: the link to {target} leads nowhere",
                document.display()
            );
        }
    }
}

#[test]
fn every_decision_has_a_number_of_its_own() {
    let mut numbers = BTreeSet::new();
    for file in files(&root().join("docs/decisions"), &[".md"]) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name
            .get(..4)
            .filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
        let number = number
            .unwrap_or_else(|| panic!("docs/decisions/{name}: expected NNNN-title.md"))
            .to_owned();
        assert!(numbers.insert(number), "docs/decisions/{name}: this number is taken");
    }
}
