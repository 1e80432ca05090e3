//! A recording of reference servers that talk to each other: what one of them was told and what it said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use billow_model::{Domain, HashedVersion, Timestamp, Version, WaveletName};
use billow_signing::Signer;
use billow_wire::{AppliedDelta, Encoded};
use billow_xmpp::Element;
use serde_json::Value;

use crate::said::{Answer, Word, said};

/// Where the recordings are.
pub(crate) fn directory() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    std::env::var_os("BILLOW_CAPTURES").map_or_else(default, PathBuf::from)
}

/// The key of a domain in the recordings, with its chain as it was posted there: Beta's has an intermediate, and the root is in it.
pub(crate) fn signer(domain: &str) -> Signer {
    let file = |name: &str| std::fs::read(directory().join("keys").join(name)).unwrap();
    let middle = if domain == "beta.test" {
        file("sub.pem")
    } else {
        Vec::new()
    };
    let chain = [file(&format!("{domain}.crt")), middle, file("ca.pem")].concat();
    Signer::from_pem(domain.parse().unwrap(), &file(&format!("{domain}.key")), &chain).unwrap()
}

/// Something that happened at one of the servers.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// The server was told this.
    Told(Element),
    /// The server said this, whether or not it got through.
    Said(Element),
    /// What the recording's driver did to the servers.
    Mark(String),
}

/// An applied delta of the recording.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) applied: Encoded<AppliedDelta>,
    pub(crate) resulting: HashedVersion,
}

/// How a client saw a wavelet in the end.
#[derive(Debug)]
pub(crate) struct Dump {
    /// One of the domains' servers.
    pub(crate) server: Domain,
    pub(crate) name: WaveletName,
    pub(crate) version: u64,
    pub(crate) hash: String,
    pub(crate) participants: Vec<String>,
    pub(crate) documents: BTreeMap<String, String>,
}

/// A recording.
pub(crate) struct Recording {
    pub(crate) name: String,
    /// By the label of the link.
    links: BTreeMap<String, Vec<Happening>>,
    /// The histories, by wavelet.
    pub(crate) histories: BTreeMap<WaveletName, Vec<Recorded>>,
    pub(crate) dumps: Vec<Dump>,
}

impl Recording {
    /// Reads the recording of that name, `stock/…` included.
    pub(crate) fn read(name: &str) -> Self {
        let path = |ending: &str| directory().join(format!("{name}.{ending}"));
        let mut links: BTreeMap<String, Vec<Happening>> = BTreeMap::new();
        let mut marks = Vec::new();
        for line in lines(&path("jsonl")) {
            let at = Timestamp((line["t"].as_f64().unwrap() * 1000.0) as i64);
            let dropped = line["kind"] == "dropped";
            if line["kind"] == "mark" {
                let text = line["text"].as_str().unwrap().to_owned();
                marks.push(Happening {
                    at,
                    what: What::Mark(text),
                });
            }
            let Some(stanza) = line["xml"]
                .as_str()
                .filter(|_| dropped || line["kind"] == "stanza")
                .and_then(element)
            else {
                continue;
            };
            let what = if line["dir"] == "wave->xmpp" {
                What::Said(stanza)
            } else {
                What::Told(stanza)
            };
            let link = line["link"].as_str().unwrap().to_owned();
            links.entry(link).or_default().push(Happening { at, what });
        }
        for happenings in links.values_mut() {
            happenings.extend(marks.iter().cloned());
            happenings.sort_by_key(|happening| happening.at);
        }
        Self {
            name: name.to_owned(),
            histories: if path("deltas.jsonl").exists() {
                histories(&path("deltas.jsonl"))
            } else {
                seen(links.values().flatten())
            },
            dumps: dumps(name),
            links,
        }
    }

    /// The servers of which both ways were recorded, and that do more than answer others' tests.
    pub(crate) fn servers(&self) -> Vec<Domain> {
        self.links
            .keys()
            .map(|link| format!("{link}.test").parse().unwrap())
            .collect()
    }

    pub(crate) fn happenings(&self, server: &Domain) -> &[Happening] {
        let link = server.as_str().strip_suffix(".test").unwrap();
        self.links.get(link).map_or(&[], Vec::as_slice)
    }

    /// Where each signed delta was applied, by its bytes.
    pub(crate) fn by_signed_bytes(&self) -> HashMap<Vec<u8>, &Recorded> {
        let all = self.histories.values().flatten();
        all.map(|recorded| (recorded.applied.signed.bytes().to_vec(), recorded))
            .collect()
    }
}

/// The names of all recordings there are.
pub(crate) fn all() -> BTreeSet<String> {
    let in_directory = |prefix: &str| {
        let entries = std::fs::read_dir(directory().join(prefix)).unwrap();
        let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let stems = files.filter_map(|file| file.strip_suffix(".jsonl").map(|stem| format!("{prefix}{stem}")));
        stems
            .filter(|stem| !stem.rsplit('/').next().unwrap().contains('.'))
            .collect::<Vec<_>>()
    };
    in_directory("").into_iter().chain(in_directory("stock/")).collect()
}

pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let Ok(text) = std::fs::read_to_string(path) else {
        return Vec::new();
    };
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A recorded stanza; streams' headers and handshakes are none.
pub(crate) fn element(xml: &str) -> Option<Element> {
    // The streams' default namespace is that of components; here it is that of stanzas.
    let name = xml.find([' ', '>', '/'])?;
    let scoped = format!("{} xmlns='jabber:client'{}", &xml[..name], &xml[name..]);
    let element: Element = scoped.parse().ok()?;
    matches!(element.name(), "iq" | "message" | "presence").then_some(element)
}

fn histories(path: &Path) -> BTreeMap<WaveletName, Vec<Recorded>> {
    let mut histories: BTreeMap<WaveletName, Vec<Recorded>> = BTreeMap::new();
    for line in lines(path) {
        let name = WaveletName::from_uri(line["wavelet"].as_str().unwrap()).unwrap();
        let bytes = STANDARD.decode(line["applied_delta_b64"].as_str().unwrap()).unwrap();
        let applied: Encoded<AppliedDelta> = Encoded::decode(bytes.into()).unwrap();
        let operations = u64::from(applied.operations_applied);
        let resulting = applied.applied_at().next(applied.bytes(), operations);
        assert_eq!(
            resulting.version,
            Version::new(line["result"]["version"].as_u64().unwrap())
        );
        histories.entry(name).or_default().push(Recorded { applied, resulting });
    }
    histories
}

/// The histories as far as they can be seen in the stanzas.
fn seen<'a>(happenings: impl Iterator<Item = &'a Happening>) -> BTreeMap<WaveletName, Vec<Recorded>> {
    let mut all: BTreeMap<WaveletName, BTreeMap<Version, Recorded>> = BTreeMap::new();
    let mut keep = |applied: Encoded<AppliedDelta>, name: &WaveletName| {
        let resulting = applied
            .applied_at()
            .next(applied.bytes(), u64::from(applied.operations_applied));
        let at = applied.applied_at().version;
        all.entry(name.clone())
            .or_default()
            .insert(at, Recorded { applied, resulting });
    };
    let mut histories: HashMap<String, WaveletName> = HashMap::new();
    for happening in happenings {
        let (What::Told(stanza) | What::Said(stanza)) = &happening.what else {
            continue;
        };
        let id = stanza.attr("id").unwrap_or_default();
        for said in said(stanza) {
            match said.what {
                Word::Delta(name, _, bytes) => keep(Encoded::decode(bytes).unwrap(), &name),
                Word::AsksHistory(name, ..) => drop(histories.insert(id.to_owned(), name)),
                Word::Answers(_, Answer::History(deltas)) => {
                    let name = histories[id].clone();
                    deltas
                        .into_iter()
                        .for_each(|bytes| keep(Encoded::decode(bytes).unwrap(), &name));
                }
                _ => {}
            }
        }
    }
    all.into_iter()
        .map(|(name, deltas)| (name, deltas.into_values().collect()))
        .collect()
}

fn dumps(name: &str) -> Vec<Dump> {
    let path = directory().join(name);
    let (folder, stem) = (
        path.parent().unwrap().to_owned(),
        path.file_name().unwrap().to_str().unwrap().to_owned(),
    );
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let ours = |file: &Path| {
        file.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(&format!("{stem}."))
    };
    files.retain(|file| ours(file) && file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    files.iter().map(|file| dump(file)).collect()
}

fn dump(file: &Path) -> Dump {
    let json: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    // The name of the client: alice and dave are at alpha, bob and carol at beta, gina is at gamma.
    let client = file.file_stem().unwrap().to_str().unwrap().rsplit('.').next().unwrap();
    let server = match client {
        "a" | "d" => "alpha.test",
        "b" | "c" => "beta.test",
        "g" => "gamma.test",
        other => panic!("nobody knows where {other} is"),
    };
    Dump {
        server: server.parse().unwrap(),
        name: text(&json["wavelet"]).parse().unwrap(),
        version: json["version"].as_u64().unwrap(),
        hash: text(&json["hash"]),
        participants: json["participants"].as_array().unwrap().iter().map(text).collect(),
        documents: json["docs"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(id, xml)| (id.clone(), text(xml)))
            .collect(),
    }
}
