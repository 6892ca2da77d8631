//! A volume by the kinds of source that it names.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// A volume of a Pod.
#[derive(Debug, Clone, Default)]
pub struct Volume<'a> {
    name: &'a str,
    sources: Vec<&'a str>,
}

impl<'a> Volume<'a> {
    /// The name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether a source of a kind is set, such as `hostPath`.
    pub fn has(&self, source: &str) -> bool {
        self.sources.contains(&source)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Volume<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Volume<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a volume")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Volume<'de>, M::Error> {
        let mut volume = Volume::default();
        while let Some(key) = map.next_key::<&str>()? {
            if key == "name" {
                volume.name = map.next_value::<Option<&str>>()?.unwrap_or_default();
            } else if map.next_value::<Option<IgnoredAny>>()?.is_some() {
                volume.sources.push(key);
            }
        }
        Ok(volume)
    }
}
