//! From the text of a policy to its rules.
//!
//! The text is a JSON array of flat objects, as the reference has it. Names of fields may be
//! written in any case; a field that is unknown or there twice is refused, because a rule that
//! means something else than its author believes is worse than none.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::language::Language;
use super::reader::{Fault, Places, Reader, Value};
use super::{
    LANGUAGES_BYTES_MAX, POLICY_BYTES_MAX, Problem, ROLES_MAX, RULES_MAX, Rule, resource_bit,
};
use crate::model::Kind;
use crate::security::Resource;

const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads what may be in base64; no policy in JSON is. White space does not count in it.
pub(super) fn decode(text: &str) -> Option<Result<String, Problem>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if digits.is_empty() {
        return None;
    }
    let bytes = DECODER.decode(digits).ok()?;
    Some(String::from_utf8(bytes).map_err(|_| Problem::NotText))
}

/// The fields of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Field {
    ClientId,
    Roles,
    Channel,
    Resource(Resource),
    Read,
    Write,
    Deny,
    Comment,
}

const FIELDS: [(&str, Field); 13] = [
    ("ClientID", Field::ClientId),
    ("Roles", Field::Roles),
    ("Channel", Field::Channel),
    ("Events", Field::Resource(Resource::Messages(Kind::Events))),
    (
        "EventsStore",
        Field::Resource(Resource::Messages(Kind::EventsStore)),
    ),
    ("Queues", Field::Resource(Resource::Messages(Kind::Queues))),
    (
        "Commands",
        Field::Resource(Resource::Messages(Kind::Commands)),
    ),
    (
        "Queries",
        Field::Resource(Resource::Messages(Kind::Queries)),
    ),
    ("Management", Field::Resource(Resource::Management)),
    ("Read", Field::Read),
    ("Write", Field::Write),
    ("Deny", Field::Deny),
    ("Comment", Field::Comment),
];

/// Reads all rules.
pub(super) fn rules(text: &str, unanchored: bool) -> Result<Vec<Rule>, Fault> {
    if text.len() > POLICY_BYTES_MAX {
        let problem = Problem::TooLong(text.len());
        return Err(Fault { at: 0, problem });
    }
    let mut maker = Maker {
        places: Places::new(text),
        unanchored,
        languages: HashMap::new(),
        bytes: 0,
    };
    let mut reader = Reader::new(text);
    if !reader.take('[') {
        return Err(reader.expected("`[`, an array of rules"));
    }
    let mut rules = Vec::new();
    if !reader.take(']') {
        loop {
            let at = reader.offset();
            if rules.len() >= RULES_MAX {
                let problem = Problem::TooManyRules;
                return Err(Fault { at, problem });
            }
            let draft = Draft::read(&mut reader)?;
            rules.push(maker.rule(rules.len() + 1, draft)?);
            if reader.take(']') {
                break;
            }
            if !reader.take(',') {
                return Err(reader.expected("`,` or `]`"));
            }
        }
    }
    match reader.peek() {
        None => Ok(rules),
        Some(_) => Err(reader.expected("the end")),
    }
}

/// A rule as it is written.
#[derive(Default)]
struct Draft {
    at: usize,
    client: Option<(usize, String)>,
    roles: Option<(usize, Vec<(usize, String)>)>,
    channel: Option<(usize, String)>,
    resources: u8,
    read: bool,
    write: bool,
    deny: bool,
}

impl Draft {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut draft = Self {
            at: reader.offset(),
            ..Self::default()
        };
        if !reader.take('{') {
            return Err(reader.expected("`{`, a rule"));
        }
        let mut seen = Vec::new();
        if reader.take('}') {
            return Ok(draft);
        }
        loop {
            let at = reader.offset();
            let name = reader.text()?;
            let field = find_field(&name).map_err(|problem| Fault { at, problem })?;
            if seen.contains(&field) {
                let problem = Problem::Twice(name);
                return Err(Fault { at, problem });
            }
            seen.push(field);
            if !reader.take(':') {
                return Err(reader.expected("`:`"));
            }
            let at = reader.offset();
            let value = reader.value()?;
            draft.set(field, at, value)?;
            if reader.take('}') {
                return Ok(draft);
            }
            if !reader.take(',') {
                return Err(reader.expected("`,` or `}`"));
            }
        }
    }

    fn set(&mut self, field: Field, at: usize, value: Value) -> Result<(), Fault> {
        match (field, value) {
            // The reference passes over it, too.
            (_, Value::Null) => {}
            (Field::ClientId, Value::Text(text)) => self.client = Some((at, text)),
            (Field::Channel, Value::Text(text)) => self.channel = Some((at, text)),
            (Field::Comment, Value::Text(_)) => {}
            (Field::Roles, Value::Texts(texts)) => self.roles = Some((at, texts)),
            (Field::Resource(resource), Value::Bool(yes)) => {
                self.resources |= if yes { resource_bit(resource) } else { 0 };
            }
            (Field::Read, Value::Bool(yes)) => self.read = yes,
            (Field::Write, Value::Bool(yes)) => self.write = yes,
            (Field::Deny, Value::Bool(yes)) => self.deny = yes,
            (field, Value::Bool(_) | Value::Text(_) | Value::Texts(_)) => {
                let problem = Problem::Type(match field {
                    Field::ClientId | Field::Channel | Field::Comment => "a text",
                    Field::Roles => "an array of texts",
                    Field::Resource(_) | Field::Read | Field::Write | Field::Deny => {
                        "true or false"
                    }
                });
                return Err(Fault { at, problem });
            }
        }
        Ok(())
    }
}

fn find_field(name: &str) -> Result<Field, Problem> {
    let mut fields = FIELDS.iter();
    if let Some((_, field)) = fields.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Ok(*field);
    }
    // What is far longer than any field is not meant to be one, and would take long to compare.
    let name: String = name.chars().take(40).collect();
    let lower = name.to_ascii_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &lower);
    let nearest = FIELDS
        .iter()
        .map(|(known, _)| (distance(known), *known))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    let nearest = nearest.map(|(_, known)| known);
    Err(Problem::UnknownField { name, nearest })
}

/// Makes rules of drafts. An expression that is there many times is made once.
struct Maker<'a> {
    places: Places<'a>,
    unanchored: bool,
    languages: HashMap<String, Arc<Language>>,
    bytes: usize,
}

impl Maker<'_> {
    fn rule(&mut self, number: usize, draft: Draft) -> Result<Rule, Fault> {
        check(&draft)?;
        let roles = draft.roles.map(|(_, roles)| roles).unwrap_or_default();
        let roles = roles.into_iter().map(|(_, role)| role.into_boxed_str());
        let everywhere = || (draft.at, ".*".to_owned());
        Ok(Rule {
            number,
            place: self.places.of(draft.at),
            client: draft.client.map(|text| self.language(text)).transpose()?,
            roles: roles.collect(),
            channel: self.language(draft.channel.unwrap_or_else(everywhere))?,
            resources: draft.resources,
            read: draft.read,
            write: draft.write,
            deny: draft.deny,
        })
    }

    fn language(&mut self, (at, pattern): (usize, String)) -> Result<Arc<Language>, Fault> {
        if let Some(language) = self.languages.get(&pattern) {
            return Ok(language.clone());
        }
        let fault = |problem| Fault { at, problem };
        let language = Language::parse(&pattern, self.unanchored).map_err(fault)?;
        self.bytes += language.bytes();
        if self.bytes > LANGUAGES_BYTES_MAX {
            return Err(fault(Problem::TooLargeTogether));
        }
        let language = Arc::new(language);
        self.languages.insert(pattern, language.clone());
        Ok(language)
    }
}

fn check(draft: &Draft) -> Result<(), Fault> {
    let fault = |at, problem| Err(Fault { at, problem });
    let is_empty = |text: &Option<(usize, String)>| match text {
        Some((at, text)) if text.is_empty() => Some(*at),
        _ => None,
    };
    if let Some(at) = is_empty(&draft.client) {
        return fault(at, Problem::Empty("ClientID"));
    }
    if let Some(at) = is_empty(&draft.channel) {
        return fault(at, Problem::Empty("Channel"));
    }
    if let Some((at, roles)) = &draft.roles {
        if roles.is_empty() {
            return fault(*at, Problem::Empty("Roles"));
        }
        if roles.len() > ROLES_MAX {
            return fault(*at, Problem::TooManyRoles);
        }
        if let Some((at, _)) = roles.iter().find(|(_, role)| role.is_empty()) {
            return fault(*at, Problem::Empty("a role"));
        }
    }
    if draft.client.is_none() && draft.roles.is_none() {
        return fault(draft.at, Problem::Nobody);
    }
    let management_only = draft.resources == resource_bit(Resource::Management);
    if draft.channel.is_none() && !management_only {
        return fault(draft.at, Problem::NoChannel);
    }
    let has_effect = draft.resources != 0 && (draft.read || draft.write);
    if draft.deny && !has_effect {
        return fault(draft.at, Problem::DeniesNothing);
    }
    Ok(())
}
