//! Looks at certificates, ours and those that others show: whose, until when, for what, and what is missing between them
//! and an authority. Whether a chain is believed is said by the code that decides it for every stream; here is only found
//! out why.

use billow_model::{Domain, Timestamp};
use billow_net::{LocalDomain, Probe};
use billow_signing::{ChainError, Signer, SignerError, TrustRoots, Verifier};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef, X509Ref, X509VerifyResult};

use super::report::{Finding, Report, Severity, Topic};
use crate::clock;
use crate::config::{Config, FederationConfig};
use crate::keys;

/// Days before the end at which a warning is due; one at each.
const WARN_DAYS: [i64; 4] = [30, 14, 7, 1];
const DAY_MS: i64 = 86_400_000;

/// Whose chain is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The domain that it should be for.
    pub(super) domain: &'a billow_xmpp::Domain,
    /// For people: `the certificate of initech.lab`.
    pub(super) what: &'a str,
    /// The line to change, or what the other side must do.
    pub(super) change: &'a str,
    /// Where it is told.
    pub(super) topic: Topic,
}

/// What is wrong with the chain of a TLS server (DER, as it is shown), if something is.
pub(super) fn chain(report: &mut Report, subject: &Subject<'_>, chain: &[Vec<u8>], good: &Result<(), String>) {
    let parsed: Vec<X509> = chain.iter().filter_map(|der| X509::from_der(der).ok()).collect();
    let Some(leaf) = parsed.first() else {
        let finding = Finding::new(
            Severity::Error,
            subject.topic,
            "certificate-missing",
            format!("{} is not there", subject.what),
        );
        return report.add(finding.why(UNTRUSTED).change(subject.change));
    };
    let before = report.findings.len();
    dates(report, subject, &parsed);
    names(report, subject, leaf);
    purpose(report, subject, leaf);
    order(report, subject, &parsed);
    match good {
        Ok(()) => {
            let until = date(leaf.not_after());
            let what = format!(
                "{} is good until {until}, issued by {}",
                subject.what,
                name(leaf.issuer_name())
            );
            report.add(Finding::new(Severity::Good, subject.topic, "certificate", what));
        }
        Err(reason) => {
            let mut explained = report.findings[before..].iter();
            let explained = explained.any(|finding| finding.severity == Severity::Error);
            if !explained || reason.contains("no authority that we trust") {
                issuer(report, subject, &parsed, reason, explained);
            }
        }
    }
}

const UNTRUSTED: &str = "other servers end the connection when the certificate does not prove the domain";

fn dates(report: &mut Report, subject: &Subject<'_>, chain: &[X509]) {
    for certificate in chain {
        let whose = match std::ptr::eq(certificate, &chain[0]) {
            true => subject.what.to_owned(),
            false => format!(
                "{}: that of {} in its chain",
                subject.what,
                name(certificate.subject_name())
            ),
        };
        let (Some(from), Some(until)) = (unix_ms(certificate.not_before()), unix_ms(certificate.not_after())) else {
            continue;
        };
        let now = clock::now().0;
        let add = |report: &mut Report, severity, code, what: String, why: &str| {
            let finding = Finding::new(severity, subject.topic, code, what).why(why);
            report.add(finding.change(subject.change));
        };
        let (first, last) = (date(certificate.not_before()), date(certificate.not_after()));
        if now < from {
            let what = format!("{whose} is not valid before {first}");
            let why = "until then other servers end the connection; or the clock of this machine is wrong";
            add(report, Severity::Error, "certificate-not-yet-valid", what, why);
        } else if now > until {
            add(
                report,
                Severity::Error,
                "certificate-expired",
                format!("{whose} has expired on {last}"),
                UNTRUSTED,
            );
        } else if let Some(days) = warn_at((until - now) / DAY_MS) {
            let what = format!(
                "{whose} expires on {last}, within {days} day{}",
                if days == 1 { "" } else { "s" }
            );
            add(report, Severity::Warning, "certificate-expires", what, UNTRUSTED);
        }
    }
}

/// The smallest of [`WARN_DAYS`] within which so many days fall.
fn warn_at(left: i64) -> Option<i64> {
    WARN_DAYS.into_iter().rev().find(|days| left < *days)
}

fn names(report: &mut Report, subject: &Subject<'_>, leaf: &X509Ref) {
    let names = dns_names(leaf);
    let domain = subject.domain.to_ascii();
    let covers = |name: &String| {
        name.eq_ignore_ascii_case(&domain)
            || matches!((name.strip_prefix("*."), domain.split_once('.')), (Some(above), Some((_, rest))) if above.eq_ignore_ascii_case(rest))
    };
    if names.iter().any(covers) {
        return;
    }
    let wave = format!("wave.{domain}");
    let (code, why) = if names.iter().any(|name| name.eq_ignore_ascii_case(&wave)) {
        (
            "certificate-only-wave-name",
            "the names that count are those of the addresses: people are at the domain itself, not at wave.DOMAIN",
        )
    } else {
        ("certificate-wrong-name", UNTRUSTED)
    };
    let named = match names.len() {
        0 => "no domain at all (a common name does not count)".to_owned(),
        _ => names.join(", "),
    };
    let what = format!("{} names {named}, not {domain}", subject.what);
    let change = format!("{}; it needs the subjectAltName DNS:{domain}", subject.change);
    report.add(
        Finding::new(Severity::Error, subject.topic, code, what)
            .why(why)
            .change(change),
    );
}

fn purpose(report: &mut Report, subject: &Subject<'_>, leaf: &X509Ref) {
    if purposes(leaf).is_none_or(|purposes| purposes.contains(&"TLS Web Server Authentication".to_owned())) {
        return;
    }
    let purposes = purposes(leaf).unwrap_or_default().join(", ");
    let finding = Finding::new(
        Severity::Error,
        subject.topic,
        "certificate-purpose",
        format!("{} is not for servers; it is for: {purposes}", subject.what),
    );
    let change = format!("{}; its extended key usage must hold serverAuth", subject.change);
    report.add(finding.why(UNTRUSTED).change(change));
}

/// The extended key usages as OpenSSL names them; `None`: it does not say, which is for everything.
fn purposes(leaf: &X509Ref) -> Option<Vec<String>> {
    let text = String::from_utf8(leaf.to_text().ok()?).ok()?;
    let line = text.split("X509v3 Extended Key Usage:").nth(1)?.lines().nth(1)?;
    Some(line.split(',').map(|one| one.trim().to_owned()).collect())
}

fn order(report: &mut Report, subject: &Subject<'_>, chain: &[X509]) {
    let follows = |pair: &[X509]| pair[1].issued(&pair[0]) == X509VerifyResult::OK;
    if chain.windows(2).all(follows) {
        return;
    }
    let finding = Finding::new(
        Severity::Note,
        subject.topic,
        "chain-order",
        format!("{}: the chain is not in order", subject.what),
    );
    let why = "Billow takes it in any order; some other servers want each certificate followed by that of its issuer";
    report.add(finding.why(why).change(subject.change));
}

/// Why no authority stands behind a chain.
fn issuer(report: &mut Report, subject: &Subject<'_>, chain: &[X509], reason: &str, explained: bool) {
    let leaf = &chain[0];
    let last = topmost(chain);
    let is_self = |one: &X509| one.issued(one) == X509VerifyResult::OK;
    let (code, what, change) = if is_self(leaf) {
        (
            "certificate-self-signed",
            format!("{} is signed by itself", subject.what),
            format!("{}; or whoever talks to it must pin it by name", subject.change),
        )
    } else if is_self(last) {
        let root = name(last.subject_name());
        (
            "certificate-unknown-authority",
            format!(
                "{} comes from {root}, which is no authority that this server trusts",
                subject.what
            ),
            format!("{}; or name the authority in federation.trust_roots", subject.change),
        )
    } else if reason.contains("no authority that we trust") {
        let missing = name(last.issuer_name());
        (
            "chain-incomplete",
            format!(
                "{}: the certificate of {missing}, which issued it, is missing",
                subject.what
            ),
            format!("{}: append the certificate of {missing} to the file", subject.change),
        )
    } else if explained {
        return;
    } else {
        (
            "certificate-refused",
            format!("{}: {reason}", subject.what),
            subject.change.to_owned(),
        )
    };
    report.add(
        Finding::new(Severity::Error, subject.topic, code, what)
            .why(UNTRUSTED)
            .change(change),
    );
}

/// The certificate of a chain, in any order, to which the first leads.
fn topmost(chain: &[X509]) -> &X509 {
    let mut last = &chain[0];
    for _ in 0..chain.len() {
        let issuer = chain
            .iter()
            .find(|one| !std::ptr::eq(*one, last) && one.issued(last) == X509VerifyResult::OK);
        match issuer {
            Some(issuer) => last = issuer,
            None => break,
        }
    }
    last
}

/// Looks at our own: the pair for TLS, and the pair that signs. The bytes of the chain that peers will see.
pub(super) fn own(
    report: &mut Report,
    config: &Config,
    federation: &FederationConfig,
    probe: Option<&Probe>,
) -> Option<LocalDomain> {
    let Ok(domain) = config.domain.as_str().parse::<billow_xmpp::Domain>() else {
        return None;
    };
    if federation.lacks_certificate() {
        let what = format!("{domain} has no certificate yet: it is fetched when the server runs");
        report.add(Finding::new(
            Severity::Note,
            Topic::Certificates,
            "certificate-awaited",
            what,
        ));
        return None;
    }
    // Behind an XMPP server it is that server's certificate which others see.
    let local = match federation.component {
        Some(_) => None,
        None => own_tls(report, config, federation, &domain, probe),
    };
    own_signer(report, config, federation);
    local
}

fn own_tls(
    report: &mut Report,
    config: &Config,
    federation: &FederationConfig,
    domain: &billow_xmpp::Domain,
    probe: Option<&Probe>,
) -> Option<LocalDomain> {
    let chain_pem = read(report, config, "certificate", &federation.certificate)?;
    let key_pem = read(report, config, "key", &federation.key)?;
    let line = format!(
        "{} = {:?}",
        config.places.of("certificate"),
        federation.certificate.display().to_string()
    );
    let what = format!("the certificate of {domain} ({})", federation.certificate.display());
    let subject = Subject {
        domain,
        what: &what,
        change: &line,
        topic: Topic::Certificates,
    };
    let passphrase = federation.tls_files().passphrase().ok().flatten();
    let opened = keys::open(&key_pem, passphrase.as_deref(), chain_pem.clone());
    // As the server shows it: in order, and the key open.
    let (chain_in_order, open_key) = match opened {
        Ok(pair) => (pair.chain_pem, pair.key_pem),
        Err(_) => (chain_pem.clone(), key_pem),
    };
    let ders = |pem: &[u8]| -> Vec<Vec<u8>> {
        let parsed = X509::stack_from_pem(pem).unwrap_or_default();
        parsed.iter().filter_map(|one| one.to_der().ok()).collect()
    };
    let shown = ders(&chain_in_order);
    let good = probe.map_or(Ok(()), |probe| probe.judge(&shown, domain));
    order(report, &subject, &X509::stack_from_pem(&chain_pem).unwrap_or_default());
    chain(report, &subject, &shown, &good);
    let local = LocalDomain {
        domain: domain.clone(),
        chain_pem: chain_in_order,
        key_pem: open_key,
    };
    key(report, config, federation, &local, passphrase.is_some()).then_some(local)
}

/// Whether the key goes with the certificate; else a finding.
fn key(
    report: &mut Report,
    config: &Config,
    federation: &FederationConfig,
    local: &LocalDomain,
    has_passphrase: bool,
) -> bool {
    let Err(reason) = local.check() else { return true };
    let line = format!(
        "{} = {:?}",
        config.places.of("key"),
        federation.key.display().to_string()
    );
    let path = federation.key.display();
    if is_encrypted(&local.key_pem) {
        let what = match has_passphrase {
            true => format!("{path}: the key is encrypted, and the pass phrase does not open it"),
            false => format!("{path}: the key is encrypted, and no pass phrase is given"),
        };
        let place = config.places.of("key_passphrase_file");
        let change = format!("{place} = a file (chmod 600) that holds the pass phrase in its first line");
        let finding = Finding::new(Severity::Error, Topic::Certificates, "key-encrypted", what);
        let why = "the server cannot use it, and does not start";
        report.add(finding.why(why).change(change));
    } else if reason.contains("does not go with") {
        let what = format!("{path} is not the key of {}", federation.certificate.display());
        let finding = Finding::new(Severity::Error, Topic::Certificates, "key-mismatch", what);
        let why = "the two files are of different pairs; the server does not start with them";
        report.add(finding.why(why).change(line));
    } else if !report.is_broken(Topic::Certificates) {
        let finding = Finding::new(
            Severity::Error,
            Topic::Certificates,
            "key-unusable",
            format!("{path}: {reason}"),
        );
        report.add(finding.why("the server does not start with it").change(line));
    }
    false
}

fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn own_signer(report: &mut Report, config: &Config, federation: &FederationConfig) {
    let same = federation.signer_certificate == federation.certificate && federation.signer_key == federation.key;
    let key_of = |signer, tls| if same { tls } else { signer };
    let place = config.places.of(key_of("signer_certificate", "certificate"));
    let line = format!("{place} = {:?}", federation.signer_certificate.display().to_string());
    if same && (report.has("key-mismatch") || report.has("key-encrypted") || report.has("key-unusable")) {
        return;
    }
    let read_signer = |report: &mut Report, key, path| match same {
        true => std::fs::read(path).ok(),
        false => read(report, config, key, path),
    };
    let (Some(chain), Some(key)) = (
        read_signer(report, "signer_certificate", &federation.signer_certificate),
        read_signer(report, "signer_key", &federation.signer_key),
    ) else {
        return;
    };
    let add = |report: &mut Report, severity, code, what: String, change: String| {
        let why = "what people here write is signed with it, and other servers refuse what they cannot verify";
        let finding = Finding::new(severity, Topic::Certificates, code, what).why(why);
        report.add(finding.change(change));
    };
    // As the server opens it, where it can.
    let (key, chain) = match federation.signer_files().open() {
        Ok(pair) => (pair.key_pem, pair.chain_pem),
        Err(_) => (key, chain),
    };
    match Signer::from_pem(config.domain.clone(), &key, &chain) {
        Ok(signer) => signer_dates(report, config, federation, &signer, same, &line),
        Err(error) => {
            let code = signer_code(&error, &key);
            // What TLS has told already of the same file is told once.
            if same
                && ["certificate-wrong-name", "certificate-only-wave-name"]
                    .iter()
                    .any(|told| report.has(told))
                && code == "signer-name"
            {
                return;
            }
            add(report, Severity::Error, code, error.to_string(), line);
        }
    }
}

fn signer_code(error: &SignerError, key: &[u8]) -> &'static str {
    match error {
        SignerError::NotRsa { .. } => "signer-not-rsa",
        SignerError::Weak { .. }
        | SignerError::Refused {
            error: ChainError::Key { .. },
            ..
        } => "signer-weak",
        SignerError::Name { .. } => "signer-name",
        SignerError::Mismatch { .. } => "signer-key-mismatch",
        SignerError::Key { .. } if is_encrypted(key) => "signer-key-encrypted",
        _ => "signer-refused",
    }
}

fn signer_dates(
    report: &mut Report,
    config: &Config,
    federation: &FederationConfig,
    signer: &Signer,
    same: bool,
    line: &str,
) {
    let now = clock::now();
    let until = signer.validity().until;
    let domain: &Domain = &config.domain;
    let add = |report: &mut Report, severity, code, what: String| {
        let why = "what people here write is signed with it, and other servers refuse what they cannot verify";
        report.add(
            Finding::new(severity, Topic::Certificates, code, what)
                .why(why)
                .change(line),
        );
    };
    if !signer.validity().holds(now) {
        if !same {
            add(
                report,
                Severity::Error,
                "signer-dates",
                format!("the signer certificate of {domain} is not valid now"),
            );
        }
    } else if let (Some(days), false) = (warn_at((until.0 - now.0) / DAY_MS), same) {
        let what = format!("the signer certificate of {domain} expires within {days} days");
        add(report, Severity::Warning, "signer-expires", what);
    } else if let Err(error) = Verifier::new(roots(federation)).check(signer.info(), now) {
        let what = format!("the signer certificate of {domain} leads to no authority that this server trusts: {error}");
        if !(same && report.is_broken(Topic::Certificates)) {
            add(report, Severity::Error, "signer-untrusted", what);
        }
    } else {
        let what = format!("{} signs for {domain}", federation.signer_certificate.display());
        report.add(Finding::new(Severity::Good, Topic::Certificates, "signer", what));
    }
}

fn roots(federation: &FederationConfig) -> TrustRoots {
    let pems = federation
        .trust_roots
        .iter()
        .filter_map(|path| std::fs::read(path).ok());
    pems.fold(TrustRoots::system(), |roots, pem| {
        roots.clone().with_pem(&pem).unwrap_or(roots)
    })
}

fn read(report: &mut Report, config: &Config, key: &str, path: &std::path::Path) -> Option<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let what = format!("{}: cannot be read: {error}", path.display());
            let finding = Finding::new(Severity::Error, Topic::Certificates, "file-unreadable", what);
            report.add(
                finding
                    .why("the server does not start without it")
                    .change(config.places.of(key)),
            );
            None
        }
    }
}

fn dns_names(certificate: &X509Ref) -> Vec<String> {
    let names = certificate.subject_alt_names();
    names
        .iter()
        .flatten()
        .filter_map(|name| name.dnsname().map(str::to_owned))
        .collect()
}

/// The common name, or the whole of it where there is none.
fn name(name: &X509NameRef) -> String {
    let common = name.entries_by_nid(Nid::COMMONNAME).next();
    let common = common.and_then(|entry| entry.data().to_string().ok());
    common.unwrap_or_else(|| format!("{name:?}"))
}

fn date(time: &Asn1TimeRef) -> String {
    unix_ms(time).map_or_else(|| time.to_string(), |ms| billow_xmpp::about::utc(ms)[..10].to_owned())
}

fn unix_ms(time: &Asn1TimeRef) -> Option<i64> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(Timestamp((i64::from(since.days) * 86_400 + i64::from(since.secs)) * 1000).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_thirty_fourteen_seven_days_and_one_ahead() {
        let told: Vec<_> = [31, 30, 29, 14, 13, 7, 6, 1, 0].map(warn_at).to_vec();
        let expected = [
            None,
            None,
            Some(30),
            Some(30),
            Some(14),
            Some(14),
            Some(7),
            Some(7),
            Some(1),
        ];
        assert_eq!(told, expected);
    }
}
