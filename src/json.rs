//! JSON objects that are objects, and have each name once: what serde derives for a struct would take an array of its fields as
//! well, and of a map the last of equal names, and two readers would see two files.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::error::Escaped;

/// A value that stands as a JSON object.
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

/// A list of objects.
pub(crate) fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(deserializer)?.into_iter().map(|object| object.0).collect())
}

/// The members of an object with names of any kind, in the order of the text, each name once.
pub(crate) struct Members<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut out, mut seen) = (Vec::new(), HashSet::new());
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("the name \"{}\" stands twice", Escaped(&name))));
                    }
                    out.push((name, value));
                }
                Ok(Members(out))
            }
        }

        deserializer.deserialize_map(Each(PhantomData))
    }
}

/// [`Members`] by name, of which there is at least one.
pub(crate) fn distinct<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let Members(all) = Members::deserialize(deserializer)?;
    if all.is_empty() {
        Err(D::Error::invalid_length(0, &"an object that is not empty"))
    } else {
        Ok(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Pair {
        a: u8,
        b: u8,
    }

    #[test]
    fn an_array_is_no_object() {
        let read = |json: &str| serde_json::from_str::<Object<Pair>>(json).map(|pair| (pair.0.a, pair.0.b));
        assert_eq!(read(r#"{"b": 2, "a": 1}"#).unwrap(), (1, 2));
        let error = read("[1, 2]").unwrap_err().to_string();
        assert!(error.contains("an object"), "{error}");
    }

    #[derive(Debug, serde::Deserialize)]
    struct Named {
        #[serde(deserialize_with = "distinct")]
        by_name: BTreeMap<String, u8>,
    }

    #[test]
    fn a_name_stands_once() {
        let read = |json: &str| serde_json::from_str::<Named>(json).map(|named| named.by_name);
        assert_eq!(
            read(r#"{"by_name": {"b": 2, "a": 1}}"#).unwrap(),
            BTreeMap::from([("a".into(), 1), ("b".into(), 2)])
        );
        for (json, why) in [(r#"{"a": 1, "a": 1}"#, "twice"), ("{}", "not empty"), ("[1]", "an object")] {
            let error = read(&format!("{{\"by_name\": {json}}}")).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
