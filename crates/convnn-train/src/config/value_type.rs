//! What the value of a key may be: read from its JSON schema, said in words, and checked.

use serde_json::{Map, Value as Json};
use std::fmt::{self, Display};
use toml::{Table, Value};

/// The type and range of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A whole number, both bounds included.
    Whole {
        /// The smallest.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// A finite number.
    Number {
        /// The lower bound.
        least: Option<Bound>,
        /// The upper bound.
        most: Option<Bound>,
    },
    /// `true` or `false`.
    Truth,
    /// Any text.
    Text,
    /// One of several words; some take numbers.
    Choice(Vec<Choice>),
    /// A list.
    List {
        /// The type of its entries.
        of: Box<Type>,
        /// The most entries.
        most: usize,
    },
    /// A value of another type, or one word.
    Or(Box<Type>, String),
    /// A type that only Serde checks, in words.
    Other(String),
}

/// A bound of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The number.
    pub value: f64,
    /// Whether the number itself is allowed.
    pub included: bool,
}

impl Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.value.abs() < 1e15 { write!(f, "{}", self.value) } else { write!(f, "{:e}", self.value) }
    }
}

/// A word that a value may be, with the numbers that it takes.
///
/// In TOML, `random` with its number n is `{ random = { n = 32 } }` or, as one text, `"random:32"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The word.
    pub word: String,
    /// What it means.
    pub text: String,
    /// The numbers that it takes: none, or one without a name, or some with names.
    pub fields: Vec<Field>,
}

/// A number that a choice takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name; empty for the only number of a choice such as `blend`.
    pub name: String,
    /// Its type.
    pub of: Type,
    /// Whether it must be given.
    pub required: bool,
}

/// A value that is not of its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// The names from the key down to the part of the value that is wrong.
    pub within: Vec<String>,
    /// The value found.
    pub found: String,
    /// What is accepted.
    pub expected: String,
}

impl Mismatch {
    /// The same within the part `name` of a value.
    fn in_part(mut self, name: &str) -> Self {
        self.within.insert(0, name.to_owned());
        self
    }
}

impl Type {
    /// Reads a schema, whose references lead into `definitions`.
    pub(super) fn read(schema: &Json, definitions: &Map<String, Json>) -> Self {
        let schema = resolve(schema, definitions);
        if let Some(words) = schema["x-words"].as_str() {
            return Self::Other(words.to_owned());
        }
        if schema["x-none"] == true {
            return Self::Or(Box::new(Self::plain(schema, definitions)), "none".to_owned());
        }
        let Some(options) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) else {
            return Self::plain(schema, definitions);
        };
        let choices: Vec<Choice> = options.iter().flat_map(|option| Choice::read(option, definitions)).collect();
        let others: Vec<&Json> = options.iter().filter(|option| Choice::read(option, definitions).is_empty()).collect();
        match (&others[..], &choices[..]) {
            ([], _) => Self::Choice(choices),
            ([other], [choice]) if choice.fields.is_empty() => {
                Self::Or(Box::new(Self::plain(resolve(other, definitions), definitions)), choice.word.clone())
            }
            _ => Self::unknown(),
        }
    }

    /// A schema that this module cannot read.
    fn unknown() -> Self {
        Self::Other("a value as described".to_owned())
    }

    fn plain(schema: &Json, definitions: &Map<String, Json>) -> Self {
        let bound = |name: &str, exclusive: &str| {
            let of = |name: &str, included| schema[name].as_f64().map(|value| Bound { value, included });
            of(exclusive, false).or_else(|| of(name, true))
        };
        match schema["type"].as_str() {
            Some("integer") => Self::Whole {
                least: schema["minimum"].as_i64().unwrap_or(i64::MIN),
                most: schema["maximum"].as_i64().unwrap_or(i64::MAX),
            },
            Some("number") => {
                Self::Number { least: bound("minimum", "exclusiveMinimum"), most: bound("maximum", "exclusiveMaximum") }
            }
            Some("boolean") => Self::Truth,
            Some("string") => match Choice::read(schema, definitions) {
                choices if choices.is_empty() => Self::Text,
                choices => Self::Choice(choices),
            },
            Some("array") => Self::List {
                of: Box::new(Self::read(&schema["items"], definitions)),
                most: schema["maxItems"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX),
            },
            _ => Self::unknown(),
        }
    }

    /// Whether every number in it has bounds.
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Whole { least, most } => *least > i64::MIN && *most < i64::MAX,
            Self::Number { least, most } => least.is_some() && most.is_some(),
            Self::Choice(choices) => {
                choices.iter().flat_map(|choice| &choice.fields).all(|field| field.of.is_bounded())
            }
            Self::List { of, most } => *most < usize::MAX && of.is_bounded(),
            Self::Or(other, _) => other.is_bounded(),
            Self::Truth | Self::Text | Self::Other(_) => true,
        }
    }

    /// The value in the form that Serde reads, if it is of this type.
    ///
    /// # Errors
    /// What was found and expected.
    pub fn check(&self, value: &Value) -> Result<Value, Mismatch> {
        let wrong = || Mismatch { within: Vec::new(), found: shown(value), expected: self.to_string() };
        match (self, value) {
            (Self::Whole { least, most }, Value::Integer(number)) if (least..=most).contains(&number) => {
                Ok(value.clone())
            }
            (Self::Number { .. }, Value::Float(number)) if !number.is_finite() => {
                Err(Mismatch { expected: "a finite number".to_owned(), ..wrong() })
            }
            (Self::Number { .. }, Value::Float(number)) if self.contains(*number) => Ok(value.clone()),
            (Self::Number { .. }, Value::Integer(number)) if self.contains(*number as f64) => {
                Ok(Value::Float(*number as f64))
            }
            (Self::Truth, Value::Boolean(_)) => Ok(value.clone()),
            (Self::Text, Value::String(text)) if !text.is_empty() => Ok(value.clone()),
            (Self::Or(_, word), Value::String(text)) if text == word => Ok(value.clone()),
            (Self::Or(other, _), _) => {
                other.check(value).map_err(|inner| Mismatch { expected: self.to_string(), ..inner })
            }
            (Self::List { of, most }, Value::Array(values)) => {
                if values.len() > *most {
                    let (found, expected) = (format!("a list of {}", values.len()), format!("at most {most} entries"));
                    return Err(Mismatch { found, expected, ..wrong() });
                }
                Ok(Value::Array(values.iter().map(|value| of.check(value)).collect::<Result<_, _>>()?))
            }
            (Self::Choice(choices), Value::String(text)) => {
                let mut parts = text.split(':').map(str::trim);
                let word = parts.next().unwrap_or_default();
                let choice = choices.iter().find(|choice| choice.word == word).ok_or_else(wrong)?;
                choice.read_parts(&parts.collect::<Vec<_>>()).ok_or_else(wrong)?
            }
            (Self::Choice(choices), Value::Table(table)) => {
                let (word, inner) = table.iter().next().filter(|_| table.len() == 1).ok_or_else(wrong)?;
                let choice = choices.iter().find(|choice| choice.word == *word && !choice.fields.is_empty());
                choice.ok_or_else(wrong)?.check_fields(inner)
            }
            (Self::Other(_), _) => Ok(value.clone()),
            _ => Err(wrong()),
        }
    }

    fn contains(&self, number: f64) -> bool {
        let Self::Number { least, most } = self else { return false };
        least.is_none_or(|bound| number > bound.value || bound.included && number == bound.value)
            && most.is_none_or(|bound| number < bound.value || bound.included && number == bound.value)
    }

    /// The number that `text` is.
    fn read_number(&self, text: &str) -> Option<Value> {
        match self {
            Self::Whole { .. } => text.parse().ok().map(Value::Integer),
            _ => text.parse().ok().map(Value::Float),
        }
    }
}

impl Choice {
    /// The choices that a schema stands for; none if it is of another type.
    fn read(schema: &Json, definitions: &Map<String, Json>) -> Vec<Self> {
        let schema = resolve(schema, definitions);
        let text = super::keys::sentence(schema["description"].as_str().unwrap_or_default());
        let word = |word: &Json| {
            word.as_str().map(|word| Self { word: word.to_owned(), text: text.clone(), fields: Vec::new() })
        };
        if let Some(words) = schema["enum"].as_array() {
            return words.iter().filter_map(word).collect();
        }
        if let Some(choice) = word(&schema["const"]) {
            return vec![choice];
        }
        let Some((word, inner)) =
            schema["properties"].as_object().filter(|all| all.len() == 1).and_then(|all| all.iter().next())
        else {
            return Vec::new();
        };
        let inner = resolve(inner, definitions);
        let fields = match inner["properties"].as_object() {
            Some(fields) => fields
                .iter()
                .map(|(name, field)| Field {
                    name: name.clone(),
                    of: Type::read(field, definitions),
                    required: inner["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name)),
                })
                .collect(),
            None => vec![Field { name: String::new(), of: Type::read(inner, definitions), required: true }],
        };
        vec![Self { word: word.clone(), text, fields }]
    }

    /// The value of `word:1:2`; `None` if the numbers do not fit.
    fn read_parts(&self, parts: &[&str]) -> Option<Result<Value, Mismatch>> {
        let required = self.fields.iter().filter(|field| field.required).count();
        if !(required..=self.fields.len()).contains(&parts.len()) {
            return None;
        }
        if self.fields.is_empty() {
            return Some(Ok(Value::String(self.word.clone())));
        }
        let mut numbers = Table::new();
        for (field, part) in self.fields.iter().zip(parts) {
            numbers.insert(field.name.clone(), field.of.read_number(part)?);
        }
        let inner = numbers.remove("").unwrap_or(Value::Table(numbers));
        Some(self.check_fields(&inner))
    }

    /// The value with the numbers `inner`.
    fn check_fields(&self, inner: &Value) -> Result<Value, Mismatch> {
        let checked = self.check_inner(inner).map_err(|wrong| wrong.in_part(&self.word))?;
        Ok(Value::Table(Table::from_iter([(self.word.clone(), checked)])))
    }

    fn check_inner(&self, inner: &Value) -> Result<Value, Mismatch> {
        match (&self.fields[..], inner) {
            ([Field { name, of, .. }], _) if name.is_empty() => of.check(inner),
            (fields, Value::Table(table)) => {
                let mut checked = Table::new();
                for (name, value) in table {
                    let field = fields.iter().find(|field| field.name == *name).ok_or_else(|| self.wrong(inner))?;
                    checked.insert(name.clone(), field.of.check(value).map_err(|wrong| wrong.in_part(name))?);
                }
                match fields.iter().any(|field| field.required && !checked.contains_key(&field.name)) {
                    true => Err(self.wrong(inner)),
                    false => Ok(Value::Table(checked)),
                }
            }
            _ => Err(self.wrong(inner)),
        }
    }

    fn wrong(&self, found: &Value) -> Mismatch {
        let names: Vec<_> = self.fields.iter().map(|field| format!("`{}`", field.name)).collect();
        Mismatch { within: Vec::new(), found: shown(found), expected: format!("a table of {}", names.join(" and ")) }
    }
}

impl Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.word)?;
        for field in &self.fields {
            let name = if field.name.is_empty() { "NUMBER".to_owned() } else { field.name.to_uppercase() };
            if field.required { write!(f, ":{name}")? } else { write!(f, "[:{name}]")? }
        }
        Ok(())
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Whole { least: i64::MIN, .. } => f.write_str("a whole number"),
            Self::Whole { least, most } => write!(f, "a whole number from {least} to {most}"),
            Self::Number { least, most } => {
                f.write_str("a number")?;
                match (least, most) {
                    (Some(least), Some(most)) => {
                        write!(f, " {} {}", if least.included { "from" } else { "above" }, least)?;
                        match (least.included, most.included) {
                            (true, true) => write!(f, " to {}", most),
                            (false, true) => write!(f, ", at most {}", most),
                            (true, false) => write!(f, " to below {}", most),
                            (false, false) => write!(f, " and below {}", most),
                        }
                    }
                    _ => Ok(()),
                }
            }
            Self::Truth => f.write_str("true or false"),
            Self::Text => f.write_str("a non-empty string"),
            Self::Choice(choices) => {
                let shown: Vec<_> = choices.iter().map(|choice| format!("`{choice}`")).collect();
                match &shown[..] {
                    [only] => f.write_str(only),
                    [others @ .., last] => write!(f, "{} or {last}", others.join(", ")),
                    [] => Ok(()),
                }
            }
            Self::List { of, .. } => write!(f, "a list, each entry {of}"),
            Self::Or(other, word) => write!(f, "{other}, or `{word}`"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// A value in messages; a long one is cut.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The schema that a reference leads to.
pub(super) fn resolve<'a>(schema: &'a Json, definitions: &'a Map<String, Json>) -> &'a Json {
    let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    name.and_then(|name| definitions.get(name)).unwrap_or(schema)
}
