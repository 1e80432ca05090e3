//! The wavelet-name URI, `wave://host/[wavedomain!]wave/wavelet`: the name on the federation and, as bytes, the history
//! hash of version 0, so it must be the reference's to the letter (protocol.md §1.6, §1.7).

use crate::id::{Domain, ParseIdError, WaveId, WaveletId, WaveletName};

const EXPECTED: &str = "a wavelet name like wave://example.org/w+abc/conv+root";
const SCHEME: &str = "wave://";

pub(crate) fn encode(name: &WaveletName) -> String {
    let host = name.host();
    let mut out = format!("{SCHEME}{host}/");
    if name.wave().domain() != host {
        out.push_str(name.wave().domain().as_str());
        out.push('!');
    }
    percent_encode(&mut out, name.wave().id());
    out.push('/');
    percent_encode(&mut out, name.wavelet().id());
    out
}

pub(crate) fn decode(uri: &str) -> Result<WaveletName, ParseIdError> {
    let refused = || ParseIdError::new(EXPECTED, uri);
    // COMPAT(wiab): slashes at the end do not count (protocol.md §1.7 step 2).
    let path = uri.strip_prefix(SCHEME).ok_or_else(refused)?.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let [host, wave, wavelet] = parts[..] else {
        return Err(refused());
    };
    let host: Domain = host.parse().map_err(|_| refused())?;
    let (domain, wave) = match split_domain(wave).ok_or_else(refused)? {
        (Some(domain), wave) => (domain.parse().map_err(|_| refused())?, wave),
        (None, wave) => (host.clone(), wave),
    };
    let wave = WaveId::legacy(domain, &percent_decode(wave).ok_or_else(refused)?).map_err(|_| refused())?;
    let wavelet = WaveletId::legacy(host, &percent_decode(wavelet).ok_or_else(refused)?).map_err(|_| refused())?;
    Ok(WaveletName::new(wave, wavelet))
}

/// Splits `domain!id` at its bare `!`, or the draft's `domain$id` where the left side can only be a domain (§1.5; a name
/// of one label is not taken for one, since the reference's own ids may hold a `$`). `None` for more than one `!`.
fn split_domain(wave: &str) -> Option<(Option<&str>, &str)> {
    let mut bare = Vec::new();
    let mut bytes = wave.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'~' => drop(bytes.next()),
            b'!' => bare.push(at),
            _ => {}
        }
    }
    match bare[..] {
        [] => Some(match wave.split_once('$') {
            Some((domain, id)) if domain.contains('.') && domain.parse::<Domain>().is_ok() => (Some(domain), id),
            _ => (None, wave),
        }),
        [at] => Some((Some(&wave[..at]), &wave[at + 1..])),
        _ => None,
    }
}

fn percent_encode(out: &mut String, id: &str) {
    for c in id.chars() {
        if c.is_ascii_alphanumeric() || ":@!$&'()*+,;=-._~".contains(c) {
            out.push(c);
        } else if c == ' ' {
            // COMPAT(wiab): java.net.URLEncoder writes a space so, and the decoder does not read it back.
            out.push('+');
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
}

/// `None` for a cut or wrong escape, for bytes that are no UTF-8, and for U+FFFD however it got there.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let mut digit = || {
                char::from(bytes.next()?)
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            };
            digit()? << 4 | digit()?
        } else {
            byte
        });
    }
    String::from_utf8(out).ok().filter(|text| !text.contains('\u{FFFD}'))
}
