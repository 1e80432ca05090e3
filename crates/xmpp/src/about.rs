//! What a server says about itself besides disco: its software (XEP-0092) and its clock (XEP-0202).

use minidom::Element;

use crate::{element, ns};

/// Longest name or version that is read, in characters.
const LONGEST: usize = 100;
const DAY_MS: i64 = 86_400_000;

/// What a server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// For example `Billow`.
    pub name: String,
    /// For example `0.1.0`.
    pub version: String,
}

/// The payload that asks what a server runs.
#[must_use]
pub fn software_request() -> Element {
    element("query", ns::VERSION).done()
}

/// Whether the payload of an `iq` of type `get` asks what we run.
#[must_use]
pub fn is_software_request(payload: &Element) -> bool {
    payload.is("query", ns::VERSION)
}

impl Software {
    /// The payload of the answer.
    #[must_use]
    pub fn to_element(&self) -> Element {
        element("query", ns::VERSION)
            .child(element("name", ns::VERSION).text(&self.name))
            .child(element("version", ns::VERSION).text(&self.version))
            .done()
    }

    /// Reads an answer; too long a word is cut.
    #[must_use]
    pub fn parse(payload: &Element) -> Option<Self> {
        let word = |name: &str| {
            let text = payload.get_child(name, ns::VERSION)?.text();
            Some(text.chars().filter(|c| !c.is_control()).take(LONGEST).collect())
        };
        Some(Self {
            name: word("name")?,
            version: word("version").unwrap_or_default(),
        })
    }
}

/// The payload that asks what time it is at a server.
#[must_use]
pub fn time_request() -> Element {
    element("time", ns::TIME).done()
}

/// Whether the payload of an `iq` of type `get` asks what time it is.
#[must_use]
pub fn is_time_request(payload: &Element) -> bool {
    payload.is("time", ns::TIME)
}

/// The payload of the answer, for a time in milliseconds since 1970.
#[must_use]
pub fn time_answer(now_ms: i64) -> Element {
    element("time", ns::TIME)
        .child(element("tzo", ns::TIME).text("+00:00"))
        .child(element("utc", ns::TIME).text(utc(now_ms)))
        .done()
}

/// Reads an answer: milliseconds since 1970.
#[must_use]
pub fn parse_time(payload: &Element) -> Option<i64> {
    from_utc(payload.get_child("utc", ns::TIME)?.text().trim())
}

/// A time as `2026-11-23T01:02:03.004Z` (XEP-0082).
#[must_use]
pub fn utc(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        rest % 1000
    )
}

fn from_utc(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<i64>().ok())?
    };
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let milliseconds = number(&format!("{:0<3}", fraction.get(..fraction.len().min(3))?))?;
    let sane = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let of_day = ((hour * 60 + minute) * 60 + second) * 1000 + milliseconds;
    sane.then(|| days_until(year, month, day) * DAY_MS + of_day)
}

/// Year, month and day of a day counted from 1970-01-01 (the Gregorian calendar, counted from a first of March).
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The other way round.
fn days_until(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_827_696_789), "2000-02-29T12:34:56.789Z");
        for ms in [
            0,
            1,
            951_827_696_789,
            1_795_000_000_123,
            4_102_444_799_999,
            253_402_300_799_999,
        ] {
            assert_eq!(parse_time(&time_answer(ms)), Some(ms), "{}", utc(ms));
        }
        assert_eq!(from_utc("2026-11-23T01:02:03Z"), Some(1_795_395_723_000));
        for bad in [
            "",
            "Z",
            "2026-11-23",
            "2026-13-23T01:02:03Z",
            "x-1-1T1:1:1Z",
            "2026-11-23T01:02Z",
            "2026-11-23T01:02:03.éZ",
        ] {
            assert_eq!(from_utc(bad), None, "{bad}");
        }
    }

    #[test]
    fn software_reads_back_and_a_long_name_is_cut() {
        let software = Software {
            name: "Billow".into(),
            version: "0.1.0".into(),
        };
        assert_eq!(Software::parse(&software.to_element()), Some(software));
        let long = Software {
            name: "x".repeat(10_000),
            version: String::new(),
        };
        assert_eq!(Software::parse(&long.to_element()).unwrap().name.len(), LONGEST);
        assert_eq!(Software::parse(&software_request()), None);
    }
}
