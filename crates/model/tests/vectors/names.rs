//! Ids and the wavelet-name URI.

use billow_model::{DocumentId, Domain, HashedVersion, WaveId, WaveletId, WaveletName};
use serde_json::Value;

use crate::codec::string;
use crate::files::{Report, equal};

/// Cases whose domain is none by protocol.md §1.1. The reference writes their URI, but fails as soon as it handles the name
/// (§1.4); here such a domain cannot be expressed, so such a name is refused.
const NO_DOMAIN: [usize; 7] = [90, 91, 92, 93, 94, 95, 99];

pub(crate) fn wavelet_name(report: &mut Report) {
    for (index, case) in report.cases().iter().enumerate() {
        let kind = string(&case["dir"]);
        let outcome = match kind {
            "encode" if NO_DOMAIN.contains(&index) => match name_of(case) {
                Err(_) => Ok(()),
                Ok(name) => Err(format!("{name} was accepted, take it off the list")),
            },
            "encode" => encode(case),
            "decode" => expect(case, WaveletName::from_uri(string(&case["uri"])), same_name),
            "deserialise_wave_id" => expect(case, string(&case["text"]).parse::<WaveId>(), |case, id| {
                equal("domain", &id.domain().as_str(), &string(&case["domain"]))?;
                equal("id", &id.id(), &string(&case["id"]))
            }),
            "deserialise_wavelet_name" => expect(case, string(&case["text"]).parse::<WaveletName>(), same_name),
            "document_id" => document_id(case),
            "wavelet_id_kind" => wavelet_id_kind(case),
            other => Err(format!("an unknown kind {other}")),
        };
        report.case(&format!("{index} {kind}"), outcome);
    }
    report.note(format!("{} refused on purpose: no domain", NO_DOMAIN.len()));
}

fn expect<T, E: std::fmt::Display>(
    case: &Value,
    got: Result<T, E>,
    same: impl Fn(&Value, &T) -> Result<(), String>,
) -> Result<(), String> {
    match (case.get("error").is_some(), got) {
        (true, Err(_)) => Ok(()),
        (true, Ok(_)) => Err("was accepted".into()),
        (false, Err(error)) => Err(error.to_string()),
        (false, Ok(got)) => same(case, &got),
    }
}

fn same_name(case: &Value, name: &WaveletName) -> Result<(), String> {
    equal(
        "wave domain",
        &name.wave().domain().as_str(),
        &string(&case["wave_domain"]),
    )?;
    equal("wave id", &name.wave().id(), &string(&case["wave_id"]))?;
    equal(
        "wavelet domain",
        &name.wavelet().domain().as_str(),
        &string(&case["wavelet_domain"]),
    )?;
    equal("wavelet id", &name.wavelet().id(), &string(&case["wavelet_id"]))
}

fn name_of(case: &Value) -> Result<WaveletName, billow_model::ParseIdError> {
    let wave: Domain = string(&case["wave_domain"]).parse()?;
    let wavelet: Domain = string(&case["wavelet_domain"]).parse()?;
    Ok(WaveletName::new(
        WaveId::legacy(wave, string(&case["wave_id"]))?,
        WaveletId::legacy(wavelet, string(&case["wavelet_id"]))?,
    ))
}

fn encode(case: &Value) -> Result<(), String> {
    expect(case, name_of(case), |case, name| {
        let uri = name.to_uri();
        equal("uri", &uri.as_str(), &string(&case["uri"]))?;
        let zero = hex::encode(HashedVersion::zero(name).hash.as_bytes());
        equal("version 0", &zero.as_str(), &string(&case["version_zero_hash"]))?;
        equal(
            "modern",
            &name.is_modern(),
            &case["valid_ids"].as_bool().expect("a verdict"),
        )?;
        match case["modern"].as_str() {
            Some(modern) => equal("modern form", &name.to_string().as_str(), &modern)?,
            None => equal("modern wave id", &name.wave().is_modern(), &false)?,
        }
        let round = WaveletName::from_uri(&uri).as_ref() == Ok(name);
        equal("round trip", &round, &case["uri_round_trips"].as_bool().unwrap_or(true))
    })
}

fn document_id(case: &Value) -> Result<(), String> {
    let id = DocumentId::new(string(&case["id"])).map_err(|error| error.to_string())?;
    for (key, got) in [
        ("is_blip", id.is_blip()),
        ("is_ghost", id.is_ghost()),
        ("is_attachment", id.is_attachment()),
        ("is_manifest", id.is_manifest()),
        ("is_tags", id.is_tags()),
        ("attribution_worthy_id", id.is_worthy()),
    ] {
        equal(key, &got, &case[key].as_bool().expect("a verdict"))?;
    }
    Ok(())
}

fn wavelet_id_kind(case: &Value) -> Result<(), String> {
    let id = WaveletId::legacy("example.com".parse().expect("a domain"), string(&case["id"]))
        .map_err(|error| error.to_string())?;
    for (key, got) in [
        ("is_conversational", id.is_conversational()),
        ("is_conversation_root", id.is_conversation_root()),
        ("is_user_data", id.is_user_data()),
    ] {
        equal(key, &got, &case[key].as_bool().expect("a verdict"))?;
    }
    equal(
        "address",
        &id.user_data_address().as_deref(),
        &case["user_data_address"].as_str(),
    )
}
