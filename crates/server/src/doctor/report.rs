//! What was found, by topic: in words for people, and as JSON that stays as it is for programs.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

/// What a finding is about; the report goes in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// billow.toml.
    Configuration,
    /// The data folder, the disk, the files of keys.
    Files,
    /// What TLS shows, and what signs deltas.
    Certificates,
    /// Names and addresses.
    Dns,
    /// Connections out and in.
    Ports,
    /// What the other side shows in the handshake.
    Tls,
    /// What the other side answers.
    Service,
    /// Whose time is right.
    Clock,
}

impl Topic {
    /// As it stands in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Files => "files",
            Self::Certificates => "certificates",
            Self::Dns => "dns",
            Self::Ports => "ports",
            Self::Tls => "tls",
            Self::Service => "service",
            Self::Clock => "clock",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Files => "Files and disk",
            Self::Certificates => "Certificates",
            Self::Dns => "DNS",
            Self::Ports => "Ports, out and in",
            Self::Tls => "TLS",
            Self::Service => "The other server",
            Self::Clock => "Clock",
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// As it may be; worth knowing.
    Note,
    /// It works, but not for all or not for long.
    Warning,
    /// It does not work.
    Error,
}

impl Severity {
    /// As it stands in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Good => "ok     ",
            Self::Note => "note   ",
            Self::Warning => "WARNING",
            Self::Error => "ERROR  ",
        }
    }
}

/// A command that shows the same, and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shows {
    /// To be typed.
    pub command: String,
    /// Its lines; empty: it answers nothing.
    pub answer: Vec<String>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// By which programs know it; never changes its meaning.
    pub code: &'static str,
    /// What it is about.
    pub topic: Topic,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, a sentence.
    pub what: String,
    /// Why it matters.
    pub why: Option<String>,
    /// The line of the file, or the DNS record, as it should be.
    pub change: Option<String>,
    /// What shows the same.
    pub shows: Vec<Shows>,
}

impl Finding {
    pub(super) fn new(severity: Severity, topic: Topic, code: &'static str, what: impl Into<String>) -> Self {
        Self {
            code,
            topic,
            severity,
            what: what.into(),
            why: None,
            change: None,
            shows: Vec::new(),
        }
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(super) fn change(mut self, change: impl Into<String>) -> Self {
        self.change = Some(change.into());
        self
    }

    pub(super) fn shown_by(mut self, shows: impl IntoIterator<Item = Shows>) -> Self {
        self.shows.extend(shows);
        self
    }

    fn json(&self) -> Value {
        let shows = self.shows.iter();
        let shows: Vec<Value> = shows
            .map(|shows| json!({ "command": shows.command, "answer": shows.answer }))
            .collect();
        json!({
            "code": self.code,
            "topic": self.topic.word(),
            "severity": self.severity.word(),
            "what": self.what,
            "why": self.why,
            "change": self.change,
            "shows": shows,
        })
    }
}

/// All that was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Our domain, if a configuration says it.
    pub domain: Option<String>,
    /// The domain that was looked at, if it is another's.
    pub peer: Option<String>,
    /// The findings, in the order of the topics.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    pub(super) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| finding.topic);
    }

    pub(super) fn has(&self, code: &str) -> bool {
        self.findings.iter().any(|finding| finding.code == code)
    }

    /// Whether something of this topic does not work.
    pub(super) fn is_broken(&self, topic: Topic) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|finding| finding.topic == topic && finding.severity == Severity::Error)
    }

    /// How bad the worst of it is.
    #[must_use]
    pub fn worst(&self) -> Severity {
        let severities = self.findings.iter().map(|finding| finding.severity);
        severities.max().unwrap_or(Severity::Good)
    }

    /// 0: all is well; 1: something does not work; 3: there are warnings and nothing worse.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.worst() {
            Severity::Good | Severity::Note => 0,
            Severity::Warning => 3,
            Severity::Error => 1,
        }
    }

    /// For programs; see docs/admin/trouble.md.
    #[must_use]
    pub fn json(&self) -> Value {
        let findings: Vec<Value> = self.findings.iter().map(Finding::json).collect();
        json!({
            "format": 1,
            "domain": self.domain,
            "peer": self.peer,
            "severity": self.worst().word(),
            "findings": findings,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut topic = None;
        for finding in &self.findings {
            if topic != Some(finding.topic) {
                let blank = if topic.is_some() { "\n" } else { "" };
                writeln!(text, "{blank}{}", finding.topic.heading())?;
                topic = Some(finding.topic);
            }
            writeln!(text, "  {} {}", finding.severity.mark(), finding.what)?;
            let mut line = |name: &str, words: &str| writeln!(text, "          {name:<7} {words}");
            if let Some(why) = &finding.why {
                line("why", why)?;
            }
            if let Some(change) = &finding.change {
                for (at, words) in change.lines().enumerate() {
                    line(if at == 0 { "change" } else { "" }, words)?;
                }
            }
            for shows in &finding.shows {
                line("$", &shows.command)?;
                for words in &shows.answer {
                    line("", words)?;
                }
                if shows.answer.is_empty() {
                    line("", "(nothing)")?;
                }
            }
        }
        let count = |severity| self.findings.iter().filter(|one| one.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let s = |number: usize| if number == 1 { "" } else { "s" };
        let end = match (errors, warnings) {
            (0, 0) => "All is well.".to_owned(),
            _ => format!("{errors} error{}, {warnings} warning{}.", s(errors), s(warnings)),
        };
        write!(f, "{text}\n{end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(severities: &[Severity]) -> Report {
        let finding = |severity: &Severity| Finding::new(*severity, Topic::Dns, "x", format!("{severity:?}"));
        Report {
            findings: severities.iter().map(finding).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        use Severity::{Error, Good, Note, Warning};
        assert_eq!(report(&[]).exit_code(), 0);
        assert_eq!(report(&[Good, Note]).exit_code(), 0);
        assert_eq!(report(&[Warning, Good]).exit_code(), 3);
        assert_eq!(report(&[Warning, Error, Note]).exit_code(), 1);
    }

    #[test]
    fn it_reads_as_it_should() {
        let mut report = report(&[Severity::Good]);
        report.add(
            Finding::new(Severity::Error, Topic::Ports, "port-closed", "nobody listens")
                .why("nobody comes in")
                .change("one\ntwo")
                .shown_by([Shows {
                    command: "dig x".to_owned(),
                    answer: Vec::new(),
                }]),
        );
        let text = report.to_string();
        let expected = "DNS\n  ok      Good\n\nPorts, out and in\n  ERROR   nobody listens\n          why     nobody comes in\n          change  one\n                  two\n          $       dig x\n                  (nothing)\n\n1 error, 0 warnings.";
        assert_eq!(text, expected);
        assert_eq!(report.json()["findings"][1]["severity"], "error");
    }
}
