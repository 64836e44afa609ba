//! Strict JSON: each name of an object once, nothing after the value, a limit on its size. What one reader drops and another
//! keeps would be two statements under one signature.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use stitchpack::error::{Error, Escaped, Result};

/// Parses one JSON value, which has to be valid UTF-8 of at most `most` bytes without a byte order mark. [JSN-1]
///
/// # Errors
/// `Malformed` under `rule`, with `place`.
pub fn parse(bytes: &[u8], most: usize, place: &str) -> Result<Value> {
    let fault = |detail: String| Error::Malformed { rule: "JSN-1", place: place.into(), detail };
    if bytes.len() > most {
        return Err(fault(format!("{} bytes, at most {most} are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| fault(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut deserializer).map_err(|e| fault(e.to_string()))?;
    deserializer.end().map_err(|e| fault(e.to_string()))?;
    Ok(value)
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = seq.next_element_seed(Strict)? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if out.contains_key(&name) {
                return Err(A::Error::custom(format!("the name \"{}\" stands twice", Escaped(&name))));
            }
            let value = map.next_value_seed(Strict)?;
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}

/// An object that is read member by member: what nobody asked for is refused.
pub(crate) struct Members {
    rule: &'static str,
    place: String,
    left: Map<String, Value>,
}

impl Members {
    /// # Errors
    /// `Malformed` where `value` is no object.
    pub fn of(value: Value, rule: &'static str, place: &str) -> Result<Self> {
        match value {
            Value::Object(left) => Ok(Members { rule, place: place.into(), left }),
            other => Err(Error::Malformed {
                rule,
                place: place.into(),
                detail: format!("{}, must be an object", kind(&other)),
            }),
        }
    }

    pub fn fault<T>(&self, detail: impl Into<String>) -> Result<T> {
        Err(Error::Malformed { rule: self.rule, place: self.place.clone(), detail: detail.into() })
    }

    /// A member, if it is there.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.left.shift_remove(name)
    }

    /// A member that has to be there.
    pub fn need(&mut self, name: &str) -> Result<Value> {
        match self.take(name) {
            Some(value) => Ok(value),
            None => self.fault(format!("\"{name}\" is missing")),
        }
    }

    /// A string that has to be there.
    pub fn text(&mut self, name: &str) -> Result<String> {
        match self.need(name)? {
            Value::String(text) => Ok(text),
            other => self.fault(format!("\"{name}\" is {}, must be a string", kind(&other))),
        }
    }

    /// A list that has to be there.
    pub fn list(&mut self, name: &str) -> Result<Vec<Value>> {
        match self.need(name)? {
            Value::Array(list) => Ok(list),
            other => self.fault(format!("\"{name}\" is {}, must be a list", kind(&other))),
        }
    }

    /// Refuses what is left.
    pub fn finish(self) -> Result<()> {
        match self.left.keys().next() {
            Some(name) => self.fault(format!("\"{}\" is not a member that is known here", Escaped(name))),
            None => Ok(()),
        }
    }
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
