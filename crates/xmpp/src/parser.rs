//! Bytes → stream events.
//!
//! On `rxml`, which knows only restricted XML: no document type, no entities, no comments, no processing
//! instructions. This parser resolves namespaces, builds one tree per stanza without recursion, and counts bytes,
//! depth, elements and attributes before it stores anything. However the bytes are cut, the events are the same.
//! After an error it gives the same error for ever.

use minidom::Element;
use rxml::error::EndOrError;
use rxml::parser::{RawEvent, RawParser, RawQName};
use rxml::{Namespace, NcName, Parse, WithOptions};

use crate::stream::{Limits, StreamCondition, StreamError, StreamHeader};
use crate::{ns, planted};

/// What a peer said on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// It opened the stream.
    Header(StreamHeader),
    /// It sent a child of the stream: a stanza or a word about the stream itself.
    Element(Element),
    /// It closed the stream.
    End,
}

/// Reads one stream, from its header to its end. A restarted stream needs a new parser.
pub struct Parser {
    raw: RawParser,
    limits: Limits,
    /// The namespace of stanzas on this kind of stream, read as `jabber:client`.
    wire_ns: &'static str,
    /// Bytes since the last event.
    spent: usize,
    /// The last byte was a carriage return, given on as the end of a line.
    after_return: bool,
    /// Blanks between stanzas that nobody has asked for yet.
    blanks: usize,
    /// Elements since the last event.
    elements: usize,
    /// The start tag that is being read.
    head: Option<Head>,
    /// Namespace declarations that are in scope, innermost last.
    bindings: Vec<Binding>,
    /// For each open element, the stream included, how many declarations were in scope around it.
    scopes: Vec<usize>,
    /// The open elements below the stream.
    open: Vec<Element>,
    ended: bool,
    fault: Option<StreamError>,
}

struct Head {
    name: RawQName,
    attrs: Vec<(RawQName, String)>,
    outer_bindings: usize,
}

struct Binding {
    prefix: Option<NcName>,
    namespace: String,
}

impl Parser {
    /// A parser for a stream whose stanzas are in the namespace `wire_ns`.
    #[must_use]
    pub fn new(wire_ns: &'static str, limits: Limits) -> Self {
        let options = rxml::Options {
            // The limit of bytes is what bounds a token; this is only not to be below any.
            max_token_length: Limits::AFTER_AUTH.bytes.max(limits.bytes) + 64,
            ..rxml::Options::default()
        };
        Self {
            raw: RawParser::with_options(options),
            limits,
            wire_ns,
            spent: 0,
            after_return: false,
            blanks: 0,
            elements: 0,
            head: None,
            bindings: Vec::new(),
            scopes: Vec::new(),
            open: Vec::new(),
            ended: false,
            fault: None,
        }
    }

    /// From the next stanza on other limits hold: the peer has said who it is.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How many blanks came between stanzas since this was asked last.
    pub fn take_blanks(&mut self) -> usize {
        std::mem::take(&mut self.blanks)
    }

    /// Reads until the next event or the end of the input, and moves `input` past what was read.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<StreamEvent>, StreamError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let result = self.advance(input);
        if let Err(fault) = &result {
            self.fault = Some(fault.clone());
            self.open.clear();
        }
        result
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<StreamEvent>, StreamError> {
        loop {
            if self.ended {
                // What follows the end of the stream is ignored.
                *input = &[];
                return Ok(None);
            }
            if self.spent == 0 {
                self.skip_whitespace(input)?;
            }
            let allowed = (self.limits.bytes + 1).saturating_sub(self.spent);
            let within = &input[..allowed.min(input.len())];
            let (parsed, read) = self.parse(within);
            self.spent += read;
            *input = &input[read..];
            let event = match parsed {
                Ok(Some(event)) => Some(event),
                Ok(None) => None,
                Err(EndOrError::NeedMoreData) => None,
                Err(EndOrError::Error(error)) => return Err(fault_of(&error)),
            };
            if self.spent > self.limits.bytes && !planted::is("a stanza may have any size") {
                return Err(policy("the stanza is too large"));
            }
            let Some(event) = event else { return Ok(None) };
            if let Some(event) = self.handle(event)? {
                self.spent = 0;
                self.elements = 0;
                return Ok(Some(event));
            }
        }
    }

    /// Gives the parser below some of these bytes, with the ends of lines made one kind (XML 1.0 §2.11), which it does
    /// itself everywhere but in CDATA. Also says how many bytes were taken.
    fn parse(&mut self, bytes: &[u8]) -> (Result<Option<RawEvent>, EndOrError>, usize) {
        let mut read = 0;
        loop {
            if self.after_return
                && let Some(next) = bytes.get(read)
            {
                self.after_return = false;
                read += usize::from(*next == b'\n');
            }
            let rest = &bytes[read..];
            let until = rest.iter().position(|byte| *byte == b'\r').unwrap_or(rest.len());
            let is_return = until == 0 && !rest.is_empty();
            let mut left = if is_return { b"\n" } else { &rest[..until] };
            let given = left.len();
            let parsed = self.raw.parse(&mut left, false);
            let taken = given - left.len();
            read += taken;
            self.after_return = is_return && taken == 1;
            let is_hungry = matches!(parsed, Ok(None) | Err(EndOrError::NeedMoreData));
            if !is_hungry || taken < given || read == bytes.len() {
                return (parsed, read);
            }
        }
    }

    /// Between stanzas whitespace keeps a connection alive and costs nothing; anything else but `<` is an error.
    fn skip_whitespace(&mut self, input: &mut &[u8]) -> Result<(), StreamError> {
        let blank = input.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        *input = &input[blank..];
        self.blanks = self.blanks.saturating_add(blank);
        match input.first() {
            Some(byte) if *byte != b'<' => {
                let condition = match self.scopes.is_empty() {
                    true => StreamCondition::NotWellFormed,
                    false => StreamCondition::BadFormat,
                };
                Err(StreamError::new(condition, "text where only stanzas may be"))
            }
            _ => Ok(()),
        }
    }

    fn handle(&mut self, event: RawEvent) -> Result<Option<StreamEvent>, StreamError> {
        match event {
            RawEvent::XmlDeclaration(..) => Ok(None),
            RawEvent::ElementHeadOpen(_, name) => self.head_opens(name).map(|()| None),
            RawEvent::Attribute(_, name, value) => self.attribute(name, value).map(|()| None),
            RawEvent::ElementHeadClose(_) => self.head_closes(),
            RawEvent::Text(_, text) => self.text(text).map(|()| None),
            RawEvent::ElementFoot(_) => Ok(self.element_closes()),
        }
    }

    fn head_opens(&mut self, name: RawQName) -> Result<(), StreamError> {
        self.elements += 1;
        self.check_name(&name)?;
        if self.open.len() >= self.limits.depth {
            return Err(policy("elements are nested too deeply"));
        }
        if self.elements > self.limits.elements {
            return Err(policy("the stanza has too many elements"));
        }
        self.head = Some(Head {
            name,
            attrs: Vec::new(),
            outer_bindings: self.bindings.len(),
        });
        Ok(())
    }

    fn check_name(&self, (prefix, local): &RawQName) -> Result<(), StreamError> {
        if prefix.as_ref().map_or(0, |prefix| prefix.len()) + local.len() > self.limits.name {
            return Err(policy("a name is too long"));
        }
        Ok(())
    }

    fn attribute(&mut self, name: RawQName, value: String) -> Result<(), StreamError> {
        self.check_name(&name)?;
        let head = self
            .head
            .as_mut()
            .expect("attributes come between the start and the end of a start tag");
        let declared = self.bindings.len() - head.outer_bindings;
        if head.attrs.len() + declared >= self.limits.attributes {
            return Err(policy("the element has too many attributes"));
        }
        let prefix = match name {
            (Some(ref prefix), ref local) if prefix == "xmlns" => Some(local.clone()),
            (None, ref local) if local == "xmlns" => None,
            _ => {
                head.attrs.push((name, value));
                return Ok(());
            }
        };
        if prefix.as_ref().is_some_and(|prefix| prefix == "xmlns") || value == "http://www.w3.org/2000/xmlns/" {
            return Err(StreamError::new(
                StreamCondition::BadNamespacePrefix,
                "xmlns cannot be declared",
            ));
        }
        if self.bindings[head.outer_bindings..]
            .iter()
            .any(|binding| binding.prefix == prefix)
        {
            return Err(not_well_formed("a namespace is declared twice"));
        }
        self.bindings.push(Binding {
            prefix,
            namespace: value,
        });
        Ok(())
    }

    fn head_closes(&mut self) -> Result<Option<StreamEvent>, StreamError> {
        let head = self.head.take().expect("a start tag ends after it began");
        let namespace = self.namespace(head.name.0.as_ref())?;
        if self.scopes.is_empty() {
            let header = self.header(&head, &namespace)?;
            self.scopes.push(head.outer_bindings);
            return Ok(Some(StreamEvent::Header(header)));
        }
        // A stanza's own namespace must be that of the wire; deeper down, forwarded stanzas may be in jabber:client.
        // COMPAT(components): what servers hand on to a component has come from streams of all kinds.
        if self.open.is_empty() && namespace == ns::CLIENT && self.wire_ns == ns::SERVER {
            return Err(StreamError::new(
                StreamCondition::InvalidNamespace,
                "stanzas here are in jabber:server",
            ));
        }
        let namespace = if namespace == self.wire_ns {
            ns::CLIENT.to_owned()
        } else {
            namespace
        };
        let mut element = Element::bare(String::from(head.name.1), namespace);
        for ((prefix, local), value) in head.attrs {
            let namespace = match prefix {
                Some(prefix) => Namespace::from(self.namespace(Some(&prefix))?),
                None => Namespace::NONE,
            };
            if element.attrs_mut().insert(namespace, local, value).is_some() {
                return Err(not_well_formed("an attribute is given twice"));
            }
        }
        self.scopes.push(head.outer_bindings);
        self.open.push(element);
        Ok(None)
    }

    fn header(&self, head: &Head, namespace: &str) -> Result<StreamHeader, StreamError> {
        if namespace != ns::STREAM {
            return Err(StreamError::new(
                StreamCondition::InvalidNamespace,
                "this is not a stream",
            ));
        }
        if head.name.1 != "stream" {
            return Err(StreamError::new(
                StreamCondition::BadFormat,
                "the first element must be a stream",
            ));
        }
        let content = self.bindings.iter().find(|binding| binding.prefix.is_none());
        if content.is_some_and(|binding| binding.namespace == ns::CLIENT) && self.wire_ns != ns::CLIENT {
            return Err(StreamError::new(
                StreamCondition::InvalidNamespace,
                "this is not a stream for clients",
            ));
        }
        if self.wire_ns == ns::COMPONENT && content.is_some_and(|binding| binding.namespace != ns::COMPONENT) {
            return Err(StreamError::new(
                StreamCondition::InvalidNamespace,
                "this is not a stream for components",
            ));
        }
        let mut header = StreamHeader::default();
        for (at, ((prefix, name), value)) in head.attrs.iter().enumerate() {
            if head.attrs[..at].iter().any(|((p, n), _)| p == prefix && n == name) {
                return Err(not_well_formed("an attribute is given twice"));
            }
            if let Some(prefix) = prefix {
                self.namespace(Some(prefix))?;
                continue;
            }
            let place = match name.as_str() {
                "from" => &mut header.from,
                "to" => &mut header.to,
                "id" => &mut header.id,
                "version" => {
                    header.version = parse_version(value);
                    continue;
                }
                _ => continue,
            };
            *place = Some(value.clone());
        }
        header.dialback = self.bindings.iter().any(|binding| binding.namespace == ns::DIALBACK);
        Ok(header)
    }

    fn namespace(&self, prefix: Option<&NcName>) -> Result<String, StreamError> {
        if prefix.is_some_and(|prefix| prefix == "xml") {
            return Ok(ns::XML.to_owned());
        }
        match self
            .bindings
            .iter()
            .rev()
            .find(|binding| binding.prefix.as_ref() == prefix)
        {
            Some(binding) => Ok(binding.namespace.clone()),
            None if prefix.is_none() => Ok(String::new()),
            None => Err(StreamError::new(
                StreamCondition::BadNamespacePrefix,
                "the prefix is not declared",
            )),
        }
    }

    fn text(&mut self, text: String) -> Result<(), StreamError> {
        match self.open.last_mut() {
            Some(element) => {
                element.append_text(text);
                Ok(())
            }
            None if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() => Ok(()),
            None => Err(StreamError::new(
                StreamCondition::BadFormat,
                "text where only stanzas may be",
            )),
        }
    }

    fn element_closes(&mut self) -> Option<StreamEvent> {
        let outer = self.scopes.pop().expect("rxml refuses an end tag without a start tag");
        self.bindings.truncate(outer);
        let Some(element) = self.open.pop() else {
            self.ended = true;
            return Some(StreamEvent::End);
        };
        match self.open.last_mut() {
            Some(parent) => {
                parent.append_child(element);
                None
            }
            None => Some(StreamEvent::Element(element)),
        }
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn policy(text: &'static str) -> StreamError {
    StreamError::new(StreamCondition::PolicyViolation, text)
}

fn not_well_formed(text: &'static str) -> StreamError {
    StreamError::new(StreamCondition::NotWellFormed, text)
}

/// The stream error for what `rxml` refuses.
fn fault_of(error: &rxml::Error) -> StreamError {
    use rxml::Error as Xml;
    let condition = match error {
        Xml::RestrictedXml(what) if what.contains("encoding") => StreamCondition::UnsupportedEncoding,
        Xml::RestrictedXml(what) if what.contains("long") => StreamCondition::PolicyViolation,
        Xml::RestrictedXml(_) => StreamCondition::RestrictedXml,
        // `<!` and then neither comment nor CDATA: a document type or a part of one.
        Xml::InvalidSyntax(what) if what.contains("section start") => StreamCondition::RestrictedXml,
        Xml::UndeclaredNamespacePrefix(_)
        | Xml::ReservedNamespacePrefix
        | Xml::ReservedNamespaceName
        | Xml::EmptyNamespaceUri => StreamCondition::BadNamespacePrefix,
        _ => StreamCondition::NotWellFormed,
    };
    StreamError::new(condition, error.to_string())
}

#[cfg(test)]
mod tests;
