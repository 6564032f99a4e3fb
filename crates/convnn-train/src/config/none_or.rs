//! A number or `"none"`: TOML has no null, and an absent key could not be overridden by its name.

use serde::{Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::marker::PhantomData;

/// A type of numbers.
pub(super) trait Number: Sized {
    /// What is expected, for messages.
    const EXPECTED: &'static str;

    /// The number, if the type has it.
    fn of(value: f64) -> Option<Self>;
}

impl Number for f64 {
    const EXPECTED: &'static str = "a number or \"none\"";

    fn of(value: f64) -> Option<Self> {
        Some(value)
    }
}

impl Number for usize {
    const EXPECTED: &'static str = "a whole number or \"none\"";

    fn of(value: f64) -> Option<Self> {
        // Every whole number below 2⁵³ is an f64.
        (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as Self)
    }
}

pub(super) fn serialize<T: Serialize, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str("none"),
    }
}

pub(super) fn deserialize<'de, T: Number, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(NoneOr(PhantomData))
}

struct NoneOr<T>(PhantomData<T>);

impl<T: Number> de::Visitor<'_> for NoneOr<T> {
    type Value = Option<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "none" => Ok(None),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        T::of(value).map(Some).ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        T::of(value as f64).map(Some).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        T::of(value as f64).map(Some).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }
}
